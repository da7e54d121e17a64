package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/devices/scan"
)

func newDevices() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "Find this machine's hardware, and try it out without the gateway",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newScan(), newRead(), newWrite())
	return cmd
}

func newScan() *cobra.Command {
	var o scan.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "scan",
		Short: "List pins, busses and ports, and what is connected to them",
		Long: "scan lists GPIO lines with their holders, I2C busses with the addresses that answer, SPI and serial ports, 1-wire\n" +
			"sensors and PWM chips, each with lines to paste into a configuration under devices, list. It requests no line and\n" +
			"opens no port; I2C addresses are asked as i2cdetect does. Busses that look like the machine's own (memory modules,\n" +
			"displays) are asked only when --bus names them. What is connected to an I2C address is a guess from the address.",
		Example: "  postern devices scan\n  postern devices scan --bus /dev/i2c-0\n  postern devices scan --json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			r, err := scan.New().Scan(ctx, o)
			if err != nil {
				return usage("--bus: %w", err)
			}
			if asJSON {
				return indented(cmd.OutOrStdout(), r)
			}
			return showScan(cmd.OutOrStdout(), r)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.Busses, "bus", nil, "I2C bus to ask although it looks like the machine's own: /dev/i2c-0, or a part of its adapter's name")
	f.BoolVar(&o.NoProbe, "no-probe", false, "ask no I2C address")
	f.BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// indented writes a value as JSON for people and programs.
func indented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func showScan(w io.Writer, r *scan.Report) error {
	s := &scanText{w: w}
	s.gpio(r.GPIO)
	s.i2c(r.I2C)
	s.head(len(r.SPI), "SPI ports")
	for _, p := range r.SPI {
		fmt.Fprintf(w, "  %s: what is connected cannot be asked for; a chip is tried with\n", p.Path)
		s.yaml(p.YAML)
	}
	s.head(len(r.OneWire), "1-wire busses")
	for _, b := range r.OneWire {
		fmt.Fprintf(w, "  %s: %s, %s\n", b.Name, count(len(b.Sensors), "thermometer"), count(len(b.Others), "other device"))
		s.yaml(b.YAML)
	}
	s.head(len(r.Serial), "serial ports")
	for _, p := range r.Serial {
		fmt.Fprintf(w, "  %s%s\n", p.Path, parenthesis(p.Product, p.Driver))
		s.yaml(p.YAML)
	}
	s.head(len(r.PWM), "PWM chips")
	for _, c := range r.PWM {
		fmt.Fprintf(w, "  %s: %s%s\n", c.Name, count(c.Channels, "channel"), parenthesis(c.Device))
		s.yaml(c.YAML)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "! %s\n", p)
	}
	_, err := fmt.Fprintln(w, "\npostern devices read --device '{type: …}' tries a sensor; postern doctor says what is missing for a configuration.")
	return err
}

// scanText writes a report for people.
type scanText struct{ w io.Writer }

func (s *scanText) head(n int, what string) {
	if n == 0 {
		fmt.Fprintf(s.w, "%s: none\n", what)
		return
	}
	fmt.Fprintf(s.w, "%s:\n", what)
}

func (s *scanText) yaml(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprint(s.w, "      "+line)
	}
}

// parenthesis has what is known of something, behind its name.
func parenthesis(words ...string) string {
	words = slices.DeleteFunc(words, func(s string) bool { return s == "" })
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}

func (s *scanText) gpio(chips []scan.GPIO) {
	s.head(len(chips), "GPIO chips")
	for _, c := range chips {
		fmt.Fprintf(s.w, "  %s (%s): %s\n", c.Path, c.Label, count(len(c.Lines), "line"))
		var free []string
		t := tabwriter.NewWriter(s.w, 0, 4, 2, ' ', 0)
		for _, l := range c.Lines {
			name := l.Name
			if name == "" {
				name = fmt.Sprint(l.Offset)
			}
			switch {
			case l.Used:
				holder := fmt.Sprintf("%q", l.Consumer)
				if l.Consumer == "" {
					holder = "somebody who gave no name"
				}
				fmt.Fprintf(t, "    %s\t%s\t%s, held by %s\n", name, l.Pin, l.Direction, holder)
			case l.Pin != "":
				free = append(free, name+" ("+l.Pin+")")
			case l.Name != "":
				free = append(free, name)
			}
		}
		_ = t.Flush() // as the other writes: a terminal that is gone tells nobody
		if len(free) > 0 {
			fmt.Fprintf(s.w, "    free: %s\n", strings.Join(free, ", "))
		}
		s.yaml(c.YAML)
	}
}

func (s *scanText) i2c(busses []scan.I2C) {
	s.head(len(busses), "I2C busses")
	for _, b := range busses {
		fmt.Fprintf(s.w, "  %s%s", b.Path, parenthesis(b.Adapter))
		switch {
		case b.Skipped != "":
			fmt.Fprintf(s.w, ": %s", b.Skipped)
		case len(b.Found) == 0:
			fmt.Fprint(s.w, ": nothing answers")
		}
		fmt.Fprintln(s.w)
		for _, a := range b.Found {
			var names []string
			for _, c := range a.MayBe {
				names = append(names, c.Name)
			}
			what := "unknown"
			switch {
			case a.Kernel:
				what = "a driver of the kernel has it"
			case len(names) > 0:
				what = "may be " + strings.Join(names, ", or ")
			}
			fmt.Fprintf(s.w, "    %s: %s\n", a.Address, what)
			s.yaml(a.YAML)
		}
	}
}
