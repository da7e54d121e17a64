package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

//go:embed starter.yaml
var starter []byte

func newInit() *cobra.Command {
	return &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented configuration to start from",
		Long:  "init writes a configuration, postern.yaml unless another name is given. It replaces no file.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("unexpected argument %q", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "postern.yaml"
			if len(args) > 0 {
				path = args[0]
			}
			if err := writeNew(path, starter); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "wrote %s; next: postern check -c %s, postern run -c %s\n", path, path, path)
			return err
		},
	}
}

// writeNew writes a file that must not exist. It is for its owner only, as it
// will hold secrets sooner or later.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return &exitError{status: exitUsage, err: fmt.Errorf("%s exists already and is left as it is; give another name, or move it away", path)}
	case err != nil:
		return fmt.Errorf("write the file: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	return nil
}
