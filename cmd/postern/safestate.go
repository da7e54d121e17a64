package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway"
	"github.com/postern-iot/postern/gateway/config"
)

func newSafeState() *cobra.Command {
	var path string
	var force bool
	var timeout, hold time.Duration
	cmd := &cobra.Command{
		Use:   "safe-state [-c FILE]",
		Short: "Put every actuator into its safe state, without the gateway",
		Long: "safe-state puts every actuator of a configuration into its safe state, and says so, a line for each. It is for the\n" +
			"moments when the gateway cannot do it itself, as after SIGKILL: in a systemd unit,\n\n" +
			"  ExecStopPost=postern safe-state -c /etc/postern/postern.yaml\n\n" +
			"While a gateway runs on that configuration it refuses: the devices are the gateway's. The exit status is 0 when all is\n" +
			"safe, 1 when something is not, 2 when the configuration is not sound. It takes no longer than --timeout, and --hold.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 || hold < 0 {
				return usage("--timeout must be more than 0s, and --hold 0s or more")
			}
			cfg, err := load(cmd, path)
			if err != nil {
				return err
			}
			if at := answering(cmd.Context(), cfg); at != "" && !force {
				return fmt.Errorf("a gateway answers at %s: the devices are its own, and it puts them into their safe state when it stops (systemctl stop postern); "+
					"--force does it over its head", at)
			}
			return safeState(cmd, cfg, timeout, hold)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&path, "config", "c", "postern.yaml", "the configuration")
	f.BoolVar(&force, "force", false, "also while a gateway runs")
	f.DurationVar(&timeout, "timeout", 3*time.Second, "how long all of it may take")
	f.DurationVar(&hold, "hold", 0, "keep the lines for so long afterwards, on chips that let them go with the process")
	return cmd
}

func safeState(cmd *cobra.Command, cfg *config.Config, timeout, hold time.Duration) error {
	cfg.Log.Level = "error"
	host, err := devices.NewHost(cfg.Devices, all.Table(), gateway.NewLogger(cfg.Log, cmd.ErrOrStderr(), nil))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	unsafe, actuators := 0, 0
	for _, r := range host.HaltAll(ctx) {
		switch {
		case r.Err != nil:
			unsafe++
			fmt.Fprintf(cmd.OutOrStdout(), "%s: NOT SAFE: %v\n", r.Device, r.Err)
		case r.Actuator:
			fmt.Fprintf(cmd.OutOrStdout(), "%s: safe (%v)\n", r.Device, r.Took.Round(100*time.Microsecond))
		}
		if r.Actuator {
			actuators++
		}
	}
	switch {
	case unsafe > 0:
		return fmt.Errorf("%s not in the safe state", count(unsafe, "device"))
	case actuators == 0:
		fmt.Fprintln(cmd.OutOrStdout(), "there are no actuators in this configuration")
	case hold > 0:
		stop, done := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer done()
		select {
		case <-time.After(hold):
		case <-stop.Done():
		}
	}
	return nil
}

// answering says where a gateway of this configuration answers, "" if nowhere.
func answering(ctx context.Context, cfg *config.Config) string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	for _, a := range cfg.Listen.HTTP.Addresses {
		if strings.HasPrefix(a, config.Systemd) {
			continue
		}
		// A port that is 0 is never this one; with TLS, somebody who listens is
		// all that can be known.
		if healthy(ctx, a) || cfg.Listen.HTTP.TLS.Enabled() && listening(ctx, reachable(a)) {
			return a
		}
	}
	for _, a := range cfg.Listen.Universal.Addresses {
		if !strings.HasPrefix(a, config.Systemd) && (healthy(ctx, a) || cfg.Listen.Universal.TLS.Enabled() && listening(ctx, reachable(a))) {
			return a
		}
	}
	if p := cfg.Listen.Unix.Path; p != "" {
		if c, err := new(net.Dialer).DialContext(ctx, "unix", p); err == nil {
			c.Close()
			return p
		}
	}
	return ""
}

// reachable is an address to listen on as one to connect to.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

func listening(ctx context.Context, address string) bool {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// healthy says whether a gateway's health report is at the address.
func healthy(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(address)+"/healthz", nil)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var h gateway.Health
	return err == nil && json.Unmarshal(text, &h) == nil && h.State != ""
}
