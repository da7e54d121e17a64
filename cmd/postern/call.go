package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/wamp/client"
)

func newCall() *cobra.Command {
	var o clientOptions
	var kw []string
	cmd := &cobra.Command{
		Use:   "call URI [ARGUMENT...]",
		Short: "Call a procedure and print its result as JSON",
		Long: "call calls a procedure. Arguments that are JSON are passed as such, all others as text.\n" +
			"A result of one value is printed as that value; any other as {\"args\":[…],\"kwargs\":{…}}.",
		Example: "  postern call device.relay.set true\n" +
			"  postern call device.list\n" +
			"  postern call com.example.add 1 2 --kw unit=kg\n" +
			"  postern call com.example.add -- -1 -2",
		Args: needs("the procedure's URI", 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			kwargs, err := keywords(kw)
			if err != nil {
				return err
			}
			ctx, s, leave, err := o.join()
			if err != nil {
				return err
			}
			defer leave()
			ctx, cancel := context.WithTimeout(ctx, o.timeout)
			defer cancel()
			r, err := s.Call(ctx, args[0], arguments(args[1:]), kwargs)
			if err != nil {
				return explain(err)
			}
			return printResult(cmd, r)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringArrayVar(&kw, "kw", nil, "keyword argument, key=value; may be repeated")
	return cmd
}

func printResult(cmd *cobra.Command, r *client.Result) error {
	switch {
	case len(r.KwArgs) == 0 && len(r.Args) == 0:
		return printJSON(cmd.OutOrStdout(), nil)
	case len(r.KwArgs) == 0 && len(r.Args) == 1:
		return printJSON(cmd.OutOrStdout(), r.Args[0])
	}
	return ordered(cmd.OutOrStdout(), "args", listOrNil(r.Args), "kwargs", dictOrNil(r.KwArgs))
}
