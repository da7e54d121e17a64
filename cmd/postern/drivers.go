package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway/config/strict"
)

func newDrivers() *cobra.Command {
	return &cobra.Command{
		Use:     "drivers [TYPE]",
		Short:   "List the types of devices, or explain one",
		Example: "  postern drivers\n  postern drivers gpio-output",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("unexpected argument %q", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			table := all.Table()
			if len(args) == 0 {
				return listDrivers(cmd.OutOrStdout(), table)
			}
			d := table.Driver(args[0])
			if d == nil {
				return usage("there is no type of device %q; the types are %s", args[0], strings.Join(table.Types(), ", "))
			}
			return explainDriver(cmd.OutOrStdout(), d)
		},
	}
}

func listDrivers(w io.Writer, table *devices.Table) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, d := range table.Drivers() {
		fmt.Fprintf(t, "%s\t%s\n", d.Type, d.Summary)
	}
	return t.Flush()
}

func explainDriver(w io.Writer, d *devices.Driver) error {
	fmt.Fprintf(w, "%s: %s\n\n%s\n\n", d.Type, d.Summary, strings.TrimSpace(d.Doc))
	fmt.Fprint(w, "In the configuration, under devices, list:\n\n")
	lead := "  - "
	for line := range strings.Lines(strings.TrimSpace(d.Example) + "\n") {
		fmt.Fprint(w, lead+line)
		lead = "    "
	}
	fmt.Fprint(w, "\nKeys, beside name and type:\n\n")
	if err := strict.WriteKeys(w, d.NewParams()); err != nil {
		return err
	}
	if len(d.Readings) > 0 {
		fmt.Fprint(w, "\nReadings, as events <prefix>.<name>.<reading>:\n\n")
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for _, r := range d.Readings {
			fmt.Fprintf(t, "  %s\t%s %s\t%s\n", r.Name, r.Type, r.Unit, r.Doc)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if len(d.Procedures) > 0 {
		fmt.Fprint(w, "\nProcedures, as <prefix>.<name>.<procedure>:\n\n")
		for _, p := range d.Procedures {
			var args []string
			for _, a := range p.Args {
				word := a.Name + " " + a.Type
				if a.Optional {
					word = "[" + word + "]"
				}
				args = append(args, word)
			}
			fmt.Fprintf(w, "  %s(%s)\n      %s\n", p.Name, strings.Join(args, ", "), p.Doc)
		}
	}
	return nil
}
