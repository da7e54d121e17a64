package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/all"
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
