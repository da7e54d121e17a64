package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/gateway/config/crossbar"
)

//go:embed starter.yaml
var starter []byte

func newInit() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented configuration to start from",
		Long: "init writes a configuration, postern.yaml unless another name is given. It replaces no file.\n" +
			"With --from-crossbar it translates the configuration of a Crossbar.io node, and says what it could not take over.",
		Example: "  postern init\n  postern init --from-crossbar .crossbar/config.json site.yaml",
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
			text := starter
			if from != "" {
				var err error
				if text, err = fromCrossbar(from, cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			if err := writeNew(path, text); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "wrote %s; next: postern check -c %s, postern run -c %s\n", path, path, path)
			return err
		},
	}
	cmd.Flags().StringVar(&from, "from-crossbar", "", "configuration of a Crossbar.io node to translate")
	return cmd
}

// fromCrossbar translates a file, and prints what it could not take over.
func fromCrossbar(path string, notes io.Writer) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &exitError{status: exitUsage, err: fmt.Errorf("read the node's configuration: %w", err)}
	}
	defer f.Close()
	in, err := io.ReadAll(io.LimitReader(f, crossbar.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the node's configuration: %w", err)
	}
	text, missing, err := crossbar.Translate(in)
	if err != nil {
		return nil, &exitError{status: exitUsage, err: fmt.Errorf("translate %s: %w", path, err)}
	}
	for _, n := range missing {
		fmt.Fprintln(notes, n)
	}
	return text, nil
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
