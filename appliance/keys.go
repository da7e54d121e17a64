//go:build linux

package appliance

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/postern-iot/postern/gateway/keys"
)

// certificateYears is how long the certificate of the first start is valid: as
// long as the machine, as nobody is there to renew it.
const certificateYears = 20

// makeKeys makes the machine's own TLS key and certificate at its first start,
// for the configuration to name. The certificate comes last: while it is
// missing, both are made anew.
func makeKeys(dir, hostname string, logf func(string, ...any)) error {
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if _, err := os.Stat(certFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cert, key, err := keys.SelfSigned([]string{"localhost", "127.0.0.1", hostname + ".local", hostname}, time.Now(), certificateYears*365*24*time.Hour)
	if err != nil {
		return err
	}
	if err := replace(keyFile, key); err != nil {
		return err
	}
	if err := replace(certFile, cert); err != nil {
		return err
	}
	logf("made the TLS key %s and its certificate", keyFile)
	return nil
}

// replace writes a file so that after a power cut it is the old one or the new.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
