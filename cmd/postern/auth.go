package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/wamp/auth"
	"github.com/postern-iot/postern/wamp/client"
)

// authOptions are the flags of the commands that join a realm, for who it is
// that joins.
type authOptions struct{ authid, method, secretFile string }

func (o *authOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.authid, "authid", "", "name to join under")
	f.StringVar(&o.method, "auth-method", "", "how to prove it: ticket, wampcra, wamp-scram, scram, cryptosign; left out for whichever of wamp-scram and wampcra the realm has")
	f.StringVar(&o.secretFile, "secret-file", "", "file with the ticket, the password, or for cryptosign the private key; - for standard input")
}

// methods are the client's ends of the methods chosen; none for anonymous.
func (o *authOptions) methods() ([]auth.Client, error) {
	if o.secretFile == "" {
		if o.method == "" || o.method == auth.MethodAnonymous {
			return nil, nil
		}
		return nil, usage("--auth-method %s needs --secret-file", o.method)
	}
	in := io.Reader(os.Stdin)
	if o.secretFile != "-" {
		f, err := os.Open(o.secretFile)
		if err != nil {
			return nil, usage("--secret-file: %w", err)
		}
		defer f.Close()
		in = f
	}
	secret, err := readSecret(in)
	if err != nil {
		return nil, err
	}
	switch o.method {
	case "":
		// Not ticket, for which any router could ask that wants to know the secret.
		return []auth.Client{auth.Scram(auth.MethodScram, o.authid, secret), auth.CRA(secret)}, nil
	case auth.MethodTicket:
		return []auth.Client{auth.Ticket(secret)}, nil
	case auth.MethodCRA:
		return []auth.Client{auth.CRA(secret)}, nil
	case auth.MethodScram, auth.MethodScramOld:
		return []auth.Client{auth.Scram(o.method, o.authid, secret)}, nil
	case auth.MethodCryptosign:
		key, err := auth.ParsePrivateKey(secret)
		if err != nil {
			return nil, usage("--secret-file: %w", err)
		}
		return []auth.Client{auth.Cryptosign(key)}, nil
	}
	return nil, usage("--auth-method: %q is not one of ticket, wampcra, wamp-scram, scram, cryptosign", o.method)
}

func authenticators(methods []auth.Client) []client.Authenticator {
	out := make([]client.Authenticator, len(methods))
	for i, m := range methods {
		out[i] = m
	}
	return out
}

func newKeysCryptosign() *cobra.Command {
	return &cobra.Command{
		Use:   "cryptosign [FILE]",
		Short: "Make a pair of keys for cryptosign",
		Long: "cryptosign writes a new private key to a file, cryptosign.key unless another name is given, and prints the\n" +
			"public key that goes with it. It replaces no file. The private key stays with the client.",
		Example: "  postern user add pump7 --role device --public-key $(postern keys cryptosign pump7.key)\n" +
			"  postern call --authid pump7 --auth-method cryptosign --secret-file pump7.key device.list",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("unexpected argument %q", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "cryptosign.key"
			if len(args) > 0 {
				path = args[0]
			}
			private, public := auth.NewCryptosignKey()
			if err := writeNew(path, []byte(private+"\n")); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), public)
			return err
		},
	}
}
