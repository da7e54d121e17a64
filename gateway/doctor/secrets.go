package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// pair is a certificate of the configuration, with its key.
type pair struct{ what, cert, key, ca string }

func (e *examination) pairs() []pair {
	l, m := &e.Config.Listen, &e.Config.MQTT
	all := []pair{
		{"listen.http.tls", l.HTTP.TLS.Cert, l.HTTP.TLS.Key, l.HTTP.TLS.ClientCA},
		{"listen.rawsocket.tls", l.RawSocket.TLS.Cert, l.RawSocket.TLS.Key, l.RawSocket.TLS.ClientCA},
		{"mqtt.tls", m.TLS.Cert, m.TLS.Key, m.TLS.ClientCA},
		{"mqtt.websocket.tls", m.WebSocket.TLS.Cert, m.WebSocket.TLS.Key, m.WebSocket.TLS.ClientCA},
		{"listen.universal.tls", l.Universal.TLS.Cert, l.Universal.TLS.Key, l.Universal.TLS.ClientCA},
	}
	for _, b := range e.Config.Bridge.Brokers {
		all = append(all, pair{"the broker " + b.Name, b.TLS.Cert, b.TLS.Key, b.TLS.CA})
	}
	return all
}

const (
	// renewWithin is how long before its end a certificate should be renewed.
	renewWithin = 14 * 24 * time.Hour
	maxPEM      = 1 << 20
)

// certificates looks at their ends and at the modes of the keys.
func (e *examination) certificates() string {
	n := 0
	var first time.Time
	for _, p := range e.pairs() {
		for _, path := range []string{p.cert, p.ca} {
			if path == "" {
				continue
			}
			n++
			if end := e.certificate(path, p.what); !end.IsZero() && (first.IsZero() || end.Before(first)) {
				first = end
			}
		}
		if p.key == "" {
			continue
		}
		info := e.readable(p.key, p.what+" does not work without it")
		if info != nil && info.Mode().Perm()&0o027 != 0 {
			e.problem("", fmt.Sprintf("others may read or change the key %s (mode %04o)", p.key, uint32(info.Mode().Perm())),
				p.what+": the gateway refuses it, since whoever has it can pretend to be the gateway", "chmod 0600 "+p.key+" (or 0640, when the group must read it)")
		}
		if info != nil && p.cert != "" {
			if _, err := tls.LoadX509KeyPair(e.at(p.cert), e.at(p.key)); err != nil && !os.IsPermission(err) && !os.IsNotExist(err) {
				e.problem("", fmt.Sprintf("%s and %s do not fit: %v", p.cert, p.key, err), p.what+" cannot be opened", "postern keys tls --help makes a pair that does")
			}
		}
	}
	if n == 0 || first.IsZero() {
		return ""
	}
	return fmt.Sprintf("the first ends on %s", first.UTC().Format(time.DateOnly))
}

// certificate examines a file of certificates and returns when the first of
// them ends.
func (e *examination) certificate(path, what string) (end time.Time) {
	info := e.readable(path, what+" does not work without it")
	if info == nil || info.Size() > maxPEM {
		return end
	}
	rest, err := os.ReadFile(e.at(path))
	if err != nil {
		e.warning("", fmt.Sprintf("%s cannot be looked at: %v", path, err), "when it ends is not known", "sudo postern doctor -c "+e.Path)
		return end
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			continue
		}
		if end.IsZero() || c.NotAfter.Before(end) {
			end = c.NotAfter
		}
		if e.Now.Before(c.NotBefore) {
			e.problem("", fmt.Sprintf("the certificate in %s is valid from %s on, and it is %s", path, c.NotBefore.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339)),
				what+": peers refuse it", "timedatectl shows whether the clock is right")
		}
	}
	renew := "put a new one in its place (a listener reads it without a restart); postern keys tls makes one to start with"
	switch left := end.Sub(e.Now); {
	case end.IsZero():
		e.problem("", "there is no certificate in "+path, what+" cannot be opened", "openssl x509 -in "+path+" -noout -text; it must be PEM")
	case left <= 0:
		e.problem("", fmt.Sprintf("a certificate in %s has ended on %s", path, end.UTC().Format(time.DateOnly)), what+": peers refuse it", renew)
	case left < renewWithin:
		e.warning("", fmt.Sprintf("a certificate in %s ends on %s, in %d days", path, end.UTC().Format(time.DateOnly), int(left.Hours())/24), what+": from then on peers refuse it", renew)
	}
	return end
}

var (
	// inline is a secret that stands in the configuration itself.
	inline = regexp.MustCompile(`(?m)^[^#\n]*\b(password|secret|cryptosign_key):[ \t]*[^\s!#{}\[\],]`)
	// inFile is one that is read from a file.
	inFile = regexp.MustCompile(`(?m)^[^#\n]*:[ \t]*!file[ \t]+["']?([^\s"',}\]#]+)`)
)

// secrets looks at who may read them. That the files of secrets are not open
// to others is a rule of the configuration, and known here.
func (e *examination) secrets() string {
	content, err := os.ReadFile(e.at(e.Path))
	n := 0
	if err == nil {
		path := e.Path
		if info, err := os.Stat(e.at(path)); err == nil {
			open := info.Mode().Perm()&0o004 != 0
			if inline.Match(content) {
				n++
				if open {
					e.problem("", fmt.Sprintf("everybody on this machine may read the secrets in %s (mode %04o)", path, uint32(info.Mode().Perm())),
						"who has them can join as their users", fmt.Sprintf("sudo chgrp %s %s && sudo chmod 0640 %s; or keep them in files of their own (!file PATH)", e.user.groupName(), path, path))
				}
			}
		}
		for _, m := range inFile.FindAllSubmatch(content, -1) {
			n++
			name := string(m[1])
			if !filepath.IsAbs(name) {
				name = filepath.Join(filepath.Dir(path), name)
			}
			e.secretFile(name)
		}
	}
	for _, r := range e.Config.Router.Realms {
		if f := r.Auth.UsersFile; f != "" {
			if _, err := os.Stat(e.at(f)); err == nil { // else the first user makes it
				n++
				e.secretFile(f)
			}
		}
	}
	if n == 0 {
		return ""
	}
	return strings.Replace(fmt.Sprintf("%d places, none open to others", n), "1 places", "1 place", 1)
}

func (e *examination) secretFile(path string) {
	info := e.readable(path, "the gateway does not start without it")
	if info != nil && info.Mode().Perm()&0o037 != 0 {
		e.problem("", fmt.Sprintf("others may read or change %s (mode %04o)", path, uint32(info.Mode().Perm())), "the gateway refuses it, since it holds secrets",
			"chmod 0600 "+path+" (or 0640, when the group must read it)")
	}
}
