package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/update"
)

// updateOptions are the flags of update's commands.
type updateOptions struct {
	address, key string
	wait         time.Duration
}

func newUpdate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Replace an appliance over the network, and back",
		Long: "update speaks to an appliance that was built with --update and --update-key. A new image goes into the slot that does\n" +
			"not run, and is tried once: it is committed when it has been healthy for ten seconds, and otherwise, or after a crash or\n" +
			"a power cut, the slot of before boots again. Configuration and data stay. Requests are signed with --key.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newUpdatePush(), newUpdateStatus(),
		newUpdateDo(update.Commit, "Commit the update that is being tried, without waiting for its health"),
		newUpdateDo(update.Rollback, "Return to the other slot, and restart"))
	return cmd
}

func (o *updateOptions) flags(cmd *cobra.Command, signed bool) {
	cmd.Flags().StringVar(&o.address, "to", "", "the appliance, as gate-1.lan or 192.168.1.20:"+update.Port)
	if signed {
		cmd.Flags().StringVar(&o.key, "key", "", "file with the private key, as 'postern keys cryptosign' writes it")
	}
}

func (o *updateOptions) client(signed bool) (*update.Client, error) {
	if o.address == "" {
		return nil, usage("--to is missing: the appliance's name or address")
	}
	c := &update.Client{Address: o.address}
	if _, _, err := net.SplitHostPort(o.address); err != nil {
		c.Address = net.JoinHostPort(o.address, update.Port)
	}
	if !signed {
		return c, nil
	}
	if o.key == "" {
		return nil, usage("--key is missing: the file with the private key")
	}
	text, err := os.ReadFile(o.key)
	if err == nil {
		c.Key, err = update.ParsePrivateKey(string(text))
	}
	if err != nil {
		return nil, usage("--key %s: %w", o.key, err)
	}
	return c, nil
}

func newUpdateStatus() *cobra.Command {
	var o updateOptions
	cmd := &cobra.Command{
		Use:   "status --to APPLIANCE",
		Short: "Say what runs on an appliance",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.client(false)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			report, err := c.Report(ctx)
			if err != nil {
				return &exitError{status: exitConnect, err: err}
			}
			return writeReport(cmd.OutOrStdout(), report)
		},
	}
	o.flags(cmd, false)
	return cmd
}

func writeReport(w io.Writer, r *update.Report) error {
	health := "healthy"
	if !r.Healthy {
		health = "not healthy"
	}
	fmt.Fprintf(w, "version %s for %s, build %s\n", r.Release.Version, r.Release.Board, r.Release.Build)
	fmt.Fprintf(w, "slot %d, %s, for %v\n", r.Slot, health, (time.Duration(r.Uptime) * time.Second).String())
	if r.Slot != r.Boot {
		fmt.Fprintf(w, "being tried: slot %d boots next\n", r.Boot)
	}
	if r.Last != nil {
		line := fmt.Sprintf("last update: build %s, %s", r.Last.Build, r.Last.State)
		if r.Last.Reason != "" {
			line += ": " + r.Last.Reason
		}
		fmt.Fprintln(w, line)
	}
	return nil
}

func newUpdateDo(request, short string) *cobra.Command {
	var o updateOptions
	cmd := &cobra.Command{
		Use:   request + " --to APPLIANCE --key FILE",
		Short: short,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.client(true)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			report, err := c.Do(ctx, request)
			if err != nil {
				return err
			}
			return writeReport(cmd.OutOrStdout(), report)
		},
	}
	o.flags(cmd, true)
	return cmd
}

func newUpdatePush() *cobra.Command {
	var o updateOptions
	cmd := &cobra.Command{
		Use:   "push --to APPLIANCE --key FILE IMAGE",
		Short: "Send an image, and wait until it is committed or has returned",
		Example: "  postern keys cryptosign update.key\n" +
			"  postern update push --to gate-1.lan --key update.key gate.img",
		Args: needs("the image", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.client(true)
			if err != nil {
				return err
			}
			image, err := os.ReadFile(args[0])
			if err != nil {
				return usage("%w", err)
			}
			slot, err := update.SlotOf(image)
			if err != nil {
				return usage("%s: %w", args[0], err)
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			report, err := c.Push(ctx, slot)
			if err != nil {
				return err
			}
			build := report.Last.Build
			fmt.Fprintf(cmd.OutOrStdout(), "build %s is written; the appliance restarts to try it\n", build)
			if o.wait == 0 {
				return nil
			}
			return o.follow(ctx, cmd.OutOrStdout(), c, build)
		},
	}
	o.flags(cmd, true)
	cmd.Flags().DurationVar(&o.wait, "wait", 6*time.Minute, "how long to wait for what becomes of it; 0s not to")
	return cmd
}

// follow asks the appliance until the update has ended in one way or the other.
func (o *updateOptions) follow(ctx context.Context, w io.Writer, c *update.Client, build string) error {
	ctx, cancel := context.WithTimeout(ctx, o.wait)
	defer cancel()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("nothing is known of the update after %v; 'postern update status' asks again", o.wait)
		}
		short, done := context.WithTimeout(ctx, 5*time.Second)
		report, err := c.Report(short)
		done()
		if err != nil || report.Last == nil || report.Last.Build != build {
			continue // it restarts
		}
		switch report.Last.State {
		case update.Committed:
			_, err := fmt.Fprintf(w, "build %s is healthy and committed\n", build)
			return err
		case update.Returned:
			return fmt.Errorf("build %s was given up, build %s runs again: %s", build, report.Release.Build, report.Last.Reason)
		}
	}
}
