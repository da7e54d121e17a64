package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newMan is for those who make packages.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the manual pages",
		Long:   "man writes the manual, a page for each command, into a directory, which it makes.",
		Hidden: true,
		Args:   needs("the directory", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("write the manual: %w", err)
			}
			return writeManual(cmd.Root(), args[0])
		},
	}
}

// writeManual writes the page of a command and those of its subcommands.
func writeManual(cmd *cobra.Command, dir string) error {
	if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
		return nil
	}
	path := filepath.Join(dir, pageName(cmd)+".1")
	var page strings.Builder
	manualPage(&page, cmd)
	if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
		return fmt.Errorf("write the manual: %w", err)
	}
	for _, sub := range cmd.Commands() {
		if err := writeManual(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manualPage writes one page in the man macros of roff, man(7).
func manualPage(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, ".TH %s 1 \"\" \"postern\" \"User Commands\"\n", roff(strings.ToUpper(pageName(cmd))))
	fmt.Fprintf(w, ".SH NAME\n%s \\- %s\n", roff(pageName(cmd)), roff(cmd.Short))
	fmt.Fprintf(w, ".SH SYNOPSIS\n.B %s\n", roff(cmd.CommandPath()))
	if _, rest, ok := strings.Cut(cmd.UseLine(), cmd.CommandPath()); ok && strings.TrimSpace(rest) != "" {
		fmt.Fprintln(w, roff(strings.TrimSpace(rest)))
	}
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(w, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(text))
	options := false
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) { option(w, f, &options) })
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { option(w, f, &options) })
	if cmd.Example != "" {
		fmt.Fprintf(w, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(cmd.Example))
	}
	if !cmd.HasParent() {
		fmt.Fprint(w, ".SH EXIT STATUS\n0 done, 1 it failed, 2 wrong usage or a broken configuration, 3 the router could not be reached or refused the session.\n")
	}
	var see []string
	if cmd.HasParent() {
		see = append(see, pageName(cmd.Parent()))
	}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" {
			see = append(see, pageName(sub))
		}
	}
	for i, name := range see {
		see[i] = "\\fB" + roff(name) + "\\fR(1)"
	}
	if len(see) > 0 {
		fmt.Fprintf(w, ".SH SEE ALSO\n%s\n", strings.Join(see, ", "))
	}
}

// option writes a flag, and before the first one the heading.
func option(w io.Writer, f *pflag.Flag, options *bool) {
	if f.Hidden {
		return
	}
	if !*options {
		fmt.Fprint(w, ".SH OPTIONS\n")
		*options = true
	}
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	what, help := pflag.UnquoteUsage(f)
	fmt.Fprintf(w, ".TP\n.B %s", roff(name))
	if what != "" {
		fmt.Fprintf(w, " %s", roff(what))
	}
	switch f.DefValue {
	case "", "false", "0", "[]", "0s":
	default:
		help += " (default " + f.DefValue + ")"
	}
	fmt.Fprintf(w, "\n%s\n", roff(help))
}

// roff makes a text what roff prints as it stands.
func roff(s string) string {
	s = strings.NewReplacer("\\", "\\e", "-", "\\-").Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = "\\&" + l
		}
	}
	return strings.Join(lines, "\n")
}
