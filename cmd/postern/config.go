package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/devices/sim"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/gateway/config/strict"
)

// load reads a configuration. Its problems are shown as they are, with their
// lines: they make an error with the status of wrong usage.
func load(cmd *cobra.Command, path string) (*config.Config, error) {
	return parsed(cmd, func() (*config.Config, error) { return config.Load(path, all.Table()) })
}

func parsed(cmd *cobra.Command, parse func() (*config.Config, error)) (*config.Config, error) {
	cfg, err := parse()
	var problems strict.Problems
	switch {
	case err == nil:
		return cfg, nil
	case errors.As(err, &problems):
		fmt.Fprintln(cmd.ErrOrStderr(), problems.Error())
		return nil, &exitError{status: exitUsage, quiet: true, err: err}
	}
	return nil, &exitError{status: exitUsage, err: err}
}

func newCheck() *cobra.Command {
	var path string
	var simulated bool
	cmd := &cobra.Command{
		Use:   "check [-c FILE]",
		Short: "Say what is wrong with a configuration",
		Long: "check reads a configuration as run would, and says everything that is wrong with it. It touches no hardware\n" +
			"and opens no address. The exit status is 0 when the file is sound, and 2 when it is not.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, path)
			if err != nil {
				return err
			}
			if simulated {
				world, err := sim.NewWorld(all.Table(), cfg.Devices)
				if err == nil {
					_, err = devices.NewHost(cfg.Devices, world.Table(), nil)
				}
				if err != nil {
					return &exitError{status: exitUsage, err: err}
				}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is sound: %s, %s, %s\n", path, count(len(cfg.Devices.List), "device"),
				count(len(cfg.Bridge.Brokers), "broker"), count(len(cfg.Bridge.Maps), "map"))
			return err
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "postern.yaml", "the file")
	cmd.Flags().BoolVar(&simulated, "sim", false, "also whether it runs with simulated hardware")
	return cmd
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
