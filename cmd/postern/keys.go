package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
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
	cert, key, err := selfSigned(certificateHosts(o.hosts), time.Duration(o.days)*24*time.Hour)
	if err != nil {
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

// selfSigned makes a certificate and its key as PEM.
func selfSigned(hosts []string, valid time.Duration) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("make a serial number: %w", err)
	}
	// An hour back, for clients whose clock is a little behind.
	begin := time.Now().Add(-time.Hour).UTC()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hosts[len(hosts)-1], Organization: []string{"Postern"}},
		NotBefore: begin, NotAfter: begin.Add(valid),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h == "" || strings.ContainsAny(h, "/: \t") {
			return nil, nil, usage("--host: %q is neither a name nor an address", h)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("write the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}
