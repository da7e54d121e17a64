package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/gateway/doctor"
)

// usualConfig is where a package keeps the configuration.
const usualConfig = "/etc/postern/postern.yaml"

func newDoctor() *cobra.Command {
	var path, user string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [-c FILE]",
		Short: "Say what keeps a gateway from working on this machine, and what to type",
		Long: "doctor examines this machine for a configuration: groups and modes of devices, the boot configuration, GPIO lines\n" +
			"with their holders, busses and what answers on them, serial ports, supply and heat, clock, memory card, ports,\n" +
			"certificates, secrets. For all that is wrong it says why it matters and what to type. It changes nothing. Without -c\n" +
			"it takes postern.yaml, then " + usualConfig + ", and else examines what does not depend on one. As root it sees\n" +
			"more. The exit status is 0 without a problem, 1 with one, 2 when the configuration is not sound.",
		Example: "  postern doctor\n  sudo postern doctor -c /etc/postern/postern.yaml\n  postern doctor --json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, given := configured(path, cmd.Flags().Changed("config"))
			var cfg *config.Config
			if given {
				var err error
				if cfg, err = load(cmd, path); err != nil {
					return err
				}
			}
			c := doctor.New(path, cfg)
			c.User = user
			if cfg != nil {
				c.Gateway = answering(cmd.Context(), cfg)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			areas := doctor.Examine(ctx, c)
			return report(cmd.OutOrStdout(), areas, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&path, "config", "c", "postern.yaml", "the configuration")
	f.StringVar(&user, "user", "", "whom the gateway runs as; by default the User of postern.service, else the one who asks")
	f.BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// configured finds the configuration to examine.
func configured(path string, named bool) (string, bool) {
	if named {
		return path, true
	}
	for _, p := range []string{path, usualConfig} {
		if _, err := os.Stat(p); err == nil {
			return p, true
		}
	}
	return "", false
}

// report shows the findings; its error says how many are problems.
func report(w io.Writer, areas []doctor.Area, asJSON bool) error {
	problems, warnings := 0, 0
	for _, a := range areas {
		for _, f := range a.Findings {
			if f.Level == doctor.Problem {
				problems++
			} else {
				warnings++
			}
		}
	}
	var err error
	if asJSON {
		err = indented(w, map[string]any{"problems": problems, "warnings": warnings, "areas": areas})
	} else {
		err = showAreas(w, areas)
	}
	switch {
	case err != nil:
		return err
	case problems > 0:
		return &exitError{status: exitFailed, err: fmt.Errorf("%s, %s", count(problems, "problem"), count(warnings, "warning")), quiet: asJSON}
	case !asJSON:
		_, err = fmt.Fprintf(w, "\nno problem, %s\n", count(warnings, "warning"))
	}
	return err
}

func showAreas(w io.Writer, areas []doctor.Area) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, a := range areas {
		if len(a.Findings) == 0 {
			fmt.Fprintf(t, "ok\t%s\t%s\n", a.Name, printable(a.Summary))
		}
		for _, f := range a.Findings {
			what := printable(f.What)
			if f.Device != "" {
				what = f.Device + ": " + what
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", strings.ToUpper(string(f.Level)), a.Name, what)
			fmt.Fprintf(t, "\t\twhy: %s\n\t\tdo:  %s\n", printable(f.Why), printable(f.Do))
		}
	}
	return t.Flush()
}
