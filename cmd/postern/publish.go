package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/wamp/client"
)

func newPublish() *cobra.Command {
	var o clientOptions
	var kw []string
	var retain bool
	cmd := &cobra.Command{
		Use:   "publish TOPIC [ARGUMENT...]",
		Short: "Publish an event",
		Long: "publish publishes an event and waits until the router has taken it. Arguments that are JSON are\n" +
			"passed as such, all others as text.",
		Example: "  postern publish com.example.hello world 42 --kw from=me\n" +
			"  postern publish mqtt.greenhouse.lamp on --retain",
		Args: needs("the topic", 0),
		RunE: func(_ *cobra.Command, args []string) error {
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
			opts := []client.PublishOption{client.Acknowledge()}
			if retain {
				opts = append(opts, client.Retain())
			}
			if err := s.Publish(ctx, args[0], arguments(args[1:]), kwargs, opts...); err != nil {
				return explain(err)
			}
			return nil
		},
	}
	o.flags(cmd)
	cmd.Flags().StringArrayVar(&kw, "kw", nil, "keyword argument, key=value; may be repeated")
	cmd.Flags().BoolVar(&retain, "retain", false, "have the router keep the event for later subscribers; without arguments, have it forget one")
	return cmd
}
