package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/gateway"
	"github.com/postern-iot/postern/wamp"
)

func newReload() *cobra.Command {
	var o clientOptions
	var file string
	cmd := &cobra.Command{
		Use:   "reload [-c FILE]",
		Short: "Have a gateway read its configuration again",
		Long: "reload has a running gateway read its configuration again: realms, users, roles, permissions, limits and the log's\n" +
			"level change at once, and it prints what did and what needs a restart. A file with anything wrong changes nothing.\n" +
			"With -c the file is checked first, and the gateway is reached over the Unix socket that it names. There programs\n" +
			"of the gateway's own user and of root may do this; others authenticate in the realm " + gateway.ServicesRealm + ".",
		Example: "  sudo -u postern postern reload -c /etc/postern/postern.yaml\n" +
			"  postern reload --url wss://gateway.example/ws --authid admin --secret-file admin.secret",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				cfg, err := load(cmd, file)
				if err != nil {
					return err
				}
				if path := cfg.Listen.Unix.Path; path != "" && !cmd.Flags().Changed("url") && os.Getenv("POSTERN_URL") == "" {
					o.url = "unix://" + path
				}
			}
			return o.reload(cmd)
		},
	}
	o.flags(cmd)
	realm := cmd.Flags().Lookup("realm")
	o.realm, realm.DefValue = gateway.ServicesRealm, gateway.ServicesRealm
	cmd.Flags().StringVarP(&file, "config", "c", "", "the gateway's configuration, to be checked before, and to find the gateway by")
	return cmd
}

func (o *clientOptions) reload(cmd *cobra.Command) error {
	ctx, s, leave, err := o.join()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	r, err := s.Call(ctx, "postern.reload", nil, nil)
	var refused *wamp.Error
	if errors.As(err, &refused) && len(refused.Args) == 1 && refused.URI == gateway.ErrInvalidConfiguration {
		return fmt.Errorf("nothing has changed: %v", refused.Args[0])
	}
	if err != nil {
		return explain(err)
	}
	return printResult(cmd, r)
}
