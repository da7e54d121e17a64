package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/gateway/keys"
)

func newKeys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make keys and certificates",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeysTLS(), newKeysCryptosign())
	return cmd
}

// tlsOptions are the flags of keys tls.
type tlsOptions struct {
	dir   string
	hosts []string
	days  int
}

func newKeysTLS() *cobra.Command {
	var o tlsOptions
	cmd := &cobra.Command{
		Use:   "tls [--dir DIR] [--host NAME]…",
		Short: "Make a self-signed TLS certificate and its key",
		Long: "tls makes a key (tls.key) and a certificate signed by that key itself (tls.crt), for the keys cert and key of\n" +
			"listen.http.tls and listen.rawsocket.tls. It replaces no file. Nobody trusts such a certificate by itself:\n" +
			"give tls.crt, never tls.key, to the clients as an authority to trust.",
		Example: "  postern keys tls --dir /etc/postern --host gateway.lan --host 192.168.1.10\n" +
			"  SSL_CERT_FILE=/etc/postern/tls.crt postern call --url wss://gateway.lan:8080/ws device.list",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cert, key, err := o.write()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s and %s; next, in the configuration:\nlisten: {http: {tls: {cert: %s, key: %s}}}\n", cert, key, cert, key)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", ".", "folder to write to")
	f.StringArrayVar(&o.hosts, "host", nil, "name or address under which clients connect, any number of times; localhost and this machine's name are there anyway")
	f.IntVar(&o.days, "days", 825, "how long the certificate is valid; some clients accept no more than 825")
	return cmd
}

// write makes both files, or none.
func (o *tlsOptions) write() (certFile, keyFile string, err error) {
	if o.days < 1 || o.days > 36500 {
		return "", "", usage("--days: %d is not from 1 to 36500", o.days)
	}
	certFile, keyFile = filepath.Join(o.dir, "tls.crt"), filepath.Join(o.dir, "tls.key")
	if _, err := os.Lstat(certFile); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fmt.Errorf("%s exists already and is left as it is; move it away, or give another --dir", certFile)
		}
		return "", "", &exitError{status: exitUsage, err: err}
	}
	cert, key, err := keys.SelfSigned(certificateHosts(o.hosts), time.Now(), time.Duration(o.days)*24*time.Hour)
	if err != nil {
		if errors.Is(err, keys.ErrHost) {
			err = usage("--host: %w", err)
		}
		return "", "", err
	}
	if err := writeNew(keyFile, key); err != nil {
		return "", "", err
	}
	if err := writeNew(certFile, cert); err != nil {
		return "", "", errors.Join(err, os.Remove(keyFile)) // it is the one just made
	}
	return certFile, keyFile, nil
}

func certificateHosts(more []string) []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil && name != "" && name != "localhost" {
		hosts = append(hosts, strings.ToLower(name))
	}
	return append(hosts, more...)
}
