package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// TLS says how a listener proves who it is, and whether its clients have to.
// It is a config section as well; NewTLS gives the defaults, without a
// certificate, which is to say without TLS.
type TLS struct {
	Cert       string `yaml:"cert" example:"/etc/postern/tls.crt" doc:"PEM file of the certificate, with those between it and the root; empty for no TLS. 'postern keys tls' makes a pair to start with. The files are read again when they change."`
	Key        string `yaml:"key" example:"/etc/postern/tls.key" doc:"PEM file of its private key, which nobody but its owner and group may read"`
	ClientCA   string `yaml:"client_ca" doc:"PEM file of the authorities whose certificates clients may show; empty asks clients for none"`
	ClientAuth string `yaml:"client_auth" enum:"require,optional" doc:"with client_ca, whether a client without a certificate is refused (require) or let in (optional); one that shows a certificate of another authority is refused always"`
	MinVersion string `yaml:"min_version" enum:"1.2,1.3" doc:"the oldest version of TLS to accept"`
}

// NewTLS returns the defaults.
func NewTLS() TLS { return TLS{ClientAuth: "require", MinVersion: "1.2"} }

// Enabled says whether there is to be TLS at all.
func (t *TLS) Enabled() bool { return t.Cert != "" || t.Key != "" || t.ClientCA != "" }

// Validate reports files that are missing from the section. Whether they can be
// read is found out when the listener opens.
func (t *TLS) Validate(report func(path, problem, hint string)) {
	switch {
	case t.Cert == "" && t.Key != "":
		report("cert", "there is a key without its certificate", "give both cert and key")
	case t.Cert != "" && t.Key == "":
		report("key", "there is a certificate without its key", "give both cert and key; 'postern keys tls' makes them")
	case t.Cert == "" && t.ClientCA != "":
		report("cert", "clients can only be asked for a certificate by a listener that has one", "give cert and key; 'postern keys tls' makes them")
	}
}

// suites are those of TLS 1.2 that are still sound: forward secrecy and
// authenticated encryption. Those of TLS 1.3 all are.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

const (
	// fileCheck is how often, at most, handshakes look whether the files have
	// changed.
	fileCheck = time.Second
	// maxPEM bounds what is read of a file.
	maxPEM = 1 << 20
)

// Listen returns a configuration for tls.NewListener. It looks at the files
// when clients connect: when they have changed they are read again, and when
// the new ones are no good, the old stay, and log is told why, once.
//
// protocols are what is offered by ALPN, nil for none.
func (t TLS) Listen(log *slog.Logger, protocols ...string) (*tls.Config, error) {
	if log == nil {
		log = slog.Default()
	}
	c := &certificates{TLS: t, protocols: protocols, log: log}
	var err error
	c.seen = c.look()
	if c.current, err = c.load(); err != nil {
		return nil, err
	}
	c.checked = time.Now()
	outer := c.current.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.fresh(), nil }
	return outer, nil
}

// certificates is what a listener's files held when they were last read.
type certificates struct {
	TLS
	protocols []string
	log       *slog.Logger

	mu      sync.Mutex
	checked time.Time
	seen    [3]stamp
	current *tls.Config
}

// stamp is what changes with a file.
type stamp struct {
	size    int64
	changed time.Time
	missing bool
}

func (c *certificates) files() [3]string { return [3]string{c.Cert, c.Key, c.ClientCA} }

func (c *certificates) look() (s [3]stamp) {
	for i, name := range c.files() {
		info, err := os.Stat(name)
		if err != nil {
			s[i].missing = true
			continue
		}
		s[i] = stamp{size: info.Size(), changed: info.ModTime()}
	}
	return s
}

// fresh is the configuration for the next client.
func (c *certificates) fresh() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) < fileCheck {
		return c.current
	}
	c.checked = time.Now()
	seen := c.look()
	if seen == c.seen {
		return c.current
	}
	c.seen = seen // whether they are good or not: next when they change again
	next, err := c.load()
	if err != nil {
		c.log.Warn("the TLS files have changed and are no good; going on with the old ones", "error", err)
		return c.current
	}
	c.log.Info("the TLS files have changed and are in use", "cert", c.Cert)
	c.current = next
	return next
}

func (c *certificates) load() (*tls.Config, error) {
	cert, err := readPEM(c.Cert)
	if err != nil {
		return nil, fmt.Errorf("read the TLS certificate: %w", err)
	}
	key, err := readKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("read the TLS key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the TLS certificate %q and the key %q: %w", c.Cert, c.Key, err)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) {
		c.log.Warn("the TLS certificate has expired; clients will not accept it", "cert", c.Cert, "since", pair.Leaf.NotAfter)
	}
	out := &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: suites, Certificates: []tls.Certificate{pair}, NextProtos: c.protocols,
	}
	if c.MinVersion == "1.3" {
		out.MinVersion = tls.VersionTLS13
	}
	if c.ClientCA == "" {
		return out, nil
	}
	authorities, err := readPEM(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("read the authorities of TLS clients: %w", err)
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("read the authorities of TLS clients: there is no certificate in %q", c.ClientCA)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	if c.ClientAuth == "optional" {
		out.ClientAuth = tls.VerifyClientCertIfGiven
	}
	// A resumed session would be one of the authorities that there were.
	out.SessionTicketsDisabled = true
	return out, nil
}

func readPEM(name string) ([]byte, error) {
	text, _, err := readFile(name)
	return text, err
}

// readKey reads what others must not be able to.
func readKey(name string) ([]byte, error) {
	text, mode, err := readFile(name)
	if err == nil && mode.Perm()&0o027 != 0 {
		return nil, fmt.Errorf("others may read or change %q (mode %04o): make it 0600 or 0640, with chmod", name, uint32(mode.Perm()))
	}
	return text, err
}

func readFile(name string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%q is not a file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	switch {
	case err != nil:
		return nil, 0, err
	case len(text) > maxPEM:
		return nil, 0, fmt.Errorf("%q is larger than %d bytes", name, maxPEM)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, 0, fmt.Errorf("%q is empty", name)
	}
	return text, info.Mode(), nil
}

// shakeTLS does the server's part of the TLS handshake, where there is one.
func (l *link) shakeTLS(timeout time.Duration) error {
	conn, ok := l.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if err := conn.Handshake(); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("no TLS handshake within %v: %w", timeout, err)
		}
		return fmt.Errorf("TLS: %w", err)
	}
	return conn.SetDeadline(time.Time{})
}

// ListenTLS makes TLS connections of those that ln accepts. Unlike
// tls.NewListener's, what it returns takes a deadline where ln does.
func ListenTLS(ln net.Listener, config *tls.Config) net.Listener {
	return &tlsListener{layer{ln}, config}
}

type tlsListener struct {
	layer
	config *tls.Config
}

// Accept implements net.Listener. The handshake is the connection's first user's.
func (l *tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(conn, l.config), nil
}

// layer is a listener upon another.
type layer struct{ net.Listener }

// SetDeadline bounds Accept, where the listener below can be bounded.
func (l layer) SetDeadline(t time.Time) error {
	if below, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		return below.SetDeadline(t)
	}
	return errors.ErrUnsupported
}
