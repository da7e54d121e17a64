// Command postern is the gateway, and a WAMP client for the command line. One
// file holds one subcommand; client.go holds what the clients share.
//
// Exit status: 0 done, 1 it failed, 2 wrong usage or a broken configuration,
// 3 the router could not be reached or refused the session.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set when releases are built: -ldflags "-X main.version=…".
var version string

// The exit statuses.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitConnect = 3
)

// exitError is an error with an exit status of its own. quiet says that it has
// been shown already.
type exitError struct {
	status int
	err    error
	quiet  bool
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func main() {
	os.Exit(execute(newRoot()))
}

// execute runs the command line and returns the exit status.
func execute(root *cobra.Command) int {
	err := root.Execute()
	if err == nil {
		return 0
	}
	status := exitFailed
	var exit *exitError
	if errors.As(err, &exit) {
		status = exit.status
	}
	if exit == nil || !exit.quiet {
		fmt.Fprintf(os.Stderr, "postern: %v\n", err)
	}
	return status
}

func newRoot() *cobra.Command {
	var runs runOptions
	root := &cobra.Command{
		Use:   "postern",
		Short: "WAMP router, hardware and MQTT bridge in one gateway",
		Long: "postern is a gateway: a WAMP router with the machine's hardware attached and a bridge to MQTT.\n" +
			"Without a command it runs with simulated devices, on loopback only.",
		Args:          noArguments,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return runs.run(cmd) },
	}
	runs.flags(root)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w; 'postern %s--help' lists the flags, and arguments that begin with - go after --", err, subcommand(cmd))
	})
	root.AddCommand(newRun(), newReload(), newCheck(), newInit(), newCall(), newPublish(), newSubscribe(), newRegister(),
		newDrivers(), newDevices(), newDoctor(), newSafeState(), newBridge(), newKeys(), newUser(), newFlash(), newMan(), newImage(), newUpdate(), newVersion())
	return root
}

func subcommand(cmd *cobra.Command) string {
	if cmd.HasParent() {
		return cmd.Name() + " "
	}
	return ""
}

// usage makes an error of wrong usage.
func usage(format string, a ...any) error {
	return &exitError{status: exitUsage, err: fmt.Errorf(format, a...)}
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("unknown command or argument %q; 'postern %s--help' says what there is", args[0], subcommand(cmd))
	}
	return nil
}

// needs wants at least one argument, called what.
func needs(what string, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usage("%s is missing; 'postern %s --help' shows examples", what, cmd.Name())
		case most > 0 && len(args) > most:
			return usage("unexpected argument %q", args[most])
		}
		return nil
	}
}

// versionText is the version: as released, else as Go's build recorded it.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	if revision == "" {
		return "unreleased"
	}
	return revision + dirty
}
