package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

const defaultURL = "ws://127.0.0.1:8080/ws"

// clientOptions are the flags of the commands that join a realm.
type clientOptions struct {
	url, realm, codec string
	timeout           time.Duration
	auth              authOptions
}

func (o *clientOptions) flags(cmd *cobra.Command) {
	url := os.Getenv("POSTERN_URL")
	if url == "" {
		url = defaultURL
	}
	f := cmd.Flags()
	f.StringVar(&o.url, "url", url, "router: ws://host:port/ws, wss://, rs://host:port, rss://, unix:///path; the default can be set as POSTERN_URL")
	f.StringVar(&o.realm, "realm", "realm1", "realm to join")
	f.StringVar(&o.codec, "codec", "cbor", "serialization: json, msgpack, cbor")
	f.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long to wait for an answer")
	o.auth.flags(cmd)
}

var codecs = map[string]codec.Codec{"json": codec.JSON, "msgpack": codec.MessagePack, "cbor": codec.CBOR}

// join joins the realm. The context that it returns ends with Ctrl-C.
func (o *clientOptions) join() (context.Context, *client.Session, func(), error) {
	c, ok := codecs[o.codec]
	if !ok {
		return nil, nil, nil, usage("--codec: %q is not one of json, msgpack, cbor", o.codec)
	}
	if o.timeout <= 0 {
		return nil, nil, nil, usage("--timeout: %v is not more than 0", o.timeout)
	}
	methods, err := o.auth.methods()
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	bound, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	s, err := client.Dial(bound, o.url, client.Config{
		Realm: o.realm, AuthID: o.auth.authid, Auth: authenticators(methods), Codec: c, HandshakeTimeout: o.timeout,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		stop()
		return nil, nil, nil, &exitError{status: exitConnect, err: explain(err)}
	}
	leave := func() {
		bound, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = s.Close(bound) // the connection is gone either way
		stop()
	}
	return ctx, s, leave, nil
}

// hints say what to do about the errors that people meet.
var hints = map[string]string{
	wamp.ErrNoSuchProcedure:        "'postern call device.list' tells what the devices offer",
	wamp.ErrNoSuchRealm:            "choose another with --realm",
	wamp.ErrNotAuthorized:          "the role of this session may not do that; see 'realms' in the gateway's configuration",
	wamp.ErrNoMatchingAuthMethod:   "the realm does not accept anonymous sessions: say who you are with --authid and --secret-file, or see 'anonymous' in the gateway's configuration",
	wamp.ErrProcedureAlreadyExists: "another session offers it already",
}

// explain adds a hint to a WAMP error.
func explain(err error) error {
	var e *wamp.Error
	if errors.As(err, &e) && hints[e.URI] != "" {
		return fmt.Errorf("%w\n  hint: %s", err, hints[e.URI])
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no answer in time; --timeout sets how long to wait", err)
	}
	return err
}

// arguments turns words into values: what is JSON is taken as JSON, everything
// else as text.
func arguments(words []string) wamp.List {
	args := make(wamp.List, len(words))
	for i, w := range words {
		args[i] = argument(w)
	}
	return args
}

func argument(word string) any {
	if v, err := codec.JSON.DecodeValue([]byte(word)); err == nil {
		return v
	}
	return word
}

// keywords turns words of the form key=value into keyword arguments.
func keywords(words []string) (wamp.Dict, error) {
	if len(words) == 0 {
		return nil, nil
	}
	kwargs := wamp.Dict{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, usage("--kw: %q is not of the form key=value", w)
		}
		kwargs[key] = argument(value)
	}
	return kwargs, nil
}

// printJSON writes one value on one line.
func printJSON(w io.Writer, v any) error {
	line, err := codec.JSON.AppendValue(nil, v)
	if err != nil {
		return fmt.Errorf("write the value as JSON: %w", err)
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// ordered writes keys and values on one line, in the order given; nil values
// are left out.
func ordered(w io.Writer, pairs ...any) error {
	line := []byte{'{'}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			continue
		}
		if len(line) > 1 {
			line = append(line, ',')
		}
		var err error
		if line, err = codec.JSON.AppendValue(line, pairs[i]); err != nil {
			return err
		}
		line = append(line, ':')
		if line, err = codec.JSON.AppendValue(line, pairs[i+1]); err != nil {
			return fmt.Errorf("write the value as JSON: %w", err)
		}
	}
	_, err := w.Write(append(line, '}', '\n'))
	return err
}

// listOrNil and dictOrNil make nil of what is empty, for ordered.
func listOrNil(l wamp.List) any {
	if len(l) == 0 {
		return nil
	}
	return l
}

func dictOrNil(d wamp.Dict) any {
	if len(d) == 0 {
		return nil
	}
	return d
}

// until waits for the end of a session that serves: by the user, which is
// fine, or by the router.
func until(ctx context.Context, s *client.Session, finished <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-finished:
		return nil
	case <-s.Done():
	}
	err := s.Err()
	if err == nil {
		err = errors.New("the router ended the session")
	}
	return &exitError{status: exitConnect, err: err}
}
