package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// maxOutput bounds what a command may answer with, in bytes.
const maxOutput = 1 << 20

func newRegister() *cobra.Command {
	var o clientOptions
	var value string
	cmd := &cobra.Command{
		Use:   "register URI [--value JSON | -- COMMAND ARGUMENT...]",
		Short: "Offer a procedure, until Ctrl-C",
		Long: "register offers a procedure and prints every call of it as a JSON line. It answers with the value given\n" +
			"with --value; or with what a command prints, as JSON when it is JSON and as text when it is not; or, without\n" +
			"either, with the call's own arguments.\n\n" +
			"The command is the one given, always: nothing of a call becomes part of its command line. It finds the call\n" +
			"on its standard input, {\"args\":[…],\"kwargs\":{…}}. When it fails, so does the call, with the command's exit\n" +
			"status; what it prints to standard error stays here.",
		Example: "  postern register com.example.echo\n" +
			"  postern register com.example.answer --value 42\n" +
			"  postern register com.example.uptime -- uptime -p\n" +
			"  postern register com.example.sum -- jq '.args | add'",
		Args: needs("the procedure's URI", 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			uri, command := args[0], args[1:]
			switch dash := cmd.ArgsLenAtDash(); {
			case dash < 0 && len(command) > 0, dash > 1:
				return usage("unexpected argument %q; a command goes after --", args[1])
			case dash == 0:
				return usage("the procedure's URI goes before --")
			case len(command) > 0 && cmd.Flags().Changed("value"):
				return usage("either --value or a command")
			}
			answer := echo
			if cmd.Flags().Changed("value") {
				answer = fixed(argument(value))
			} else if len(command) > 0 {
				if _, err := exec.LookPath(command[0]); err != nil {
					return usage("the command cannot be run: %w", err)
				}
				answer = running(command)
			}
			return serve(cmd, &o, uri, answer)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&value, "value", "", "answer every call with this value")
	return cmd
}

// serve registers the procedure and stays until the end.
func serve(cmd *cobra.Command, o *clientOptions, uri string, answer client.Procedure) error {
	ctx, s, leave, err := o.join()
	if err != nil {
		return err
	}
	defer leave()
	p := &printer{finished: make(chan struct{})}
	bound, cancel := context.WithTimeout(ctx, o.timeout)
	_, err = s.Register(bound, uri, func(ctx context.Context, inv *client.Invocation) (*client.Result, error) {
		r, err := answer(ctx, inv)
		var shown any
		if err != nil {
			shown = err.Error()
		}
		p.print(func() error {
			return ordered(cmd.OutOrStdout(), "procedure", inv.Procedure, "args", listOrNil(inv.Args), "kwargs", dictOrNil(inv.KwArgs), "error", shown)
		})
		return r, err
	})
	cancel()
	if err != nil {
		return explain(err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "offering %s at %s, realm %s; Ctrl-C ends it\n", uri, o.url, o.realm)
	if err := until(ctx, s, p.finished); err != nil {
		return err
	}
	return p.problem()
}

func echo(_ context.Context, inv *client.Invocation) (*client.Result, error) {
	return &client.Result{Values: inv.Values}, nil
}

func fixed(value any) client.Procedure {
	return func(context.Context, *client.Invocation) (*client.Result, error) { return client.Return(value), nil }
}

// running answers with what a command prints.
func running(command []string) client.Procedure {
	return func(ctx context.Context, inv *client.Invocation) (*client.Result, error) {
		var in bytes.Buffer
		if err := ordered(&in, "args", inv.Args, "kwargs", inv.KwArgs); err != nil {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "the arguments cannot be written as JSON")
		}
		c := exec.CommandContext(ctx, command[0], command[1:]...)
		out := &bounded{}
		c.Stdin, c.Stdout, c.Stderr = &in, out, os.Stderr
		c.WaitDelay = time.Second
		if err := c.Run(); err != nil {
			var exit *exec.ExitError
			switch {
			case out.full:
				return nil, wamp.Errorf(wamp.ErrPayloadSizeExceeded, "the command printed more than %d bytes", maxOutput)
			case ctx.Err() != nil:
				return nil, wamp.Errorf(wamp.ErrCanceled, "the call ended before the command did")
			case errors.As(err, &exit):
				return nil, wamp.Errorf(wamp.ErrRuntimeError, "the command failed: %v", exit.ProcessState)
			}
			return nil, err
		}
		if v, err := codec.JSON.DecodeValue(bytes.TrimSpace(out.buf.Bytes())); err == nil {
			return client.Return(v), nil
		}
		return client.Return(strings.TrimRight(strings.ToValidUTF8(out.buf.String(), "�"), "\r\n")), nil
	}
}

// bounded is a buffer that refuses to grow beyond maxOutput. It has nothing of
// bytes.Buffer's but what goes through Write: ReadFrom would know no bound.
type bounded struct {
	buf  bytes.Buffer
	full bool
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > maxOutput {
		b.full = true
		return 0, io.ErrShortWrite
	}
	return b.buf.Write(p)
}
