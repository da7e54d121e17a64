package router

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
)

// entry is a user, with what is derived from the secret in a configuration when
// it is first needed.
type entry struct {
	User
	secret   string
	seed     []byte
	provider string
	extra    wamp.Dict // for WELCOME

	mu sync.Mutex
}

// has reports whether the user can use a method.
func (e *entry) has(method string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch method {
	case auth.MethodTicket:
		return e.Ticket != nil || e.secret != ""
	case auth.MethodCRA:
		return e.CRA != nil || e.secret != ""
	case auth.MethodScram, auth.MethodScramOld:
		return e.Scram != nil || e.secret != ""
	case auth.MethodCryptosign:
		return len(e.PublicKeys) > 0
	case auth.MethodTLS:
		return len(e.Certificates) > 0
	}
	return false
}

func (e *entry) ticket() *auth.TicketHash {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Ticket == nil {
		e.Ticket = auth.HashTicket(e.secret, saltFor(e.seed, auth.MethodTicket, e.AuthID))
	}
	return e.Ticket
}

func (e *entry) cra() *auth.CRAKey {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.CRA == nil {
		e.CRA = auth.NewCRAKey(e.secret, saltFor(e.seed, auth.MethodCRA, e.AuthID))
	}
	return e.CRA
}

func (e *entry) scram() (*auth.ScramKeys, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Scram == nil {
		k, err := auth.NewScramKeys(e.secret, auth.DefaultScramParams("", saltFor(e.seed, auth.MethodScram, e.AuthID)))
		if err != nil {
			return nil, err
		}
		e.Scram = k
	}
	return e.Scram, nil
}

// stamp changes when the user's role or credentials do.
func (e *entry) stamp() string {
	e.mu.Lock()
	u := e.User
	if e.secret != "" { // what is derived from it comes and goes
		u.Ticket, u.CRA, u.Scram = nil, nil, nil
	}
	secret := e.secret
	e.mu.Unlock()
	text, _ := json.Marshal(u) // of plain fields
	return fmt.Sprintf("%x", keyed(text, "stamp", secret)[:16])
}

func keyed(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}

// saltFor is the salt of a user without a stored one, and of one who does not
// exist: the two look the same.
func saltFor(seed []byte, method, authid string) []byte { return keyed(seed, method, authid)[:16] }

// directory is the users of a realm, from the configuration and a file. When
// the file cannot be read any more it keeps what it had.
type directory struct {
	log  *slog.Logger
	file string

	mu     sync.Mutex
	config []*entry
	all    []*entry // those of the file too, by name
	byName map[string]*entry
	seed   []byte
	seen   string // what the file looked like when it was read last
}

func newDirectory(c *RealmConfig, log *slog.Logger) (*directory, error) {
	d := &directory{log: log, file: c.Auth.UsersFile}
	text := []byte(c.Name)
	for _, u := range c.Auth.Users {
		e := &entry{User: User{AuthID: u.AuthID, Role: u.Role, PublicKeys: lower(u.PublicKeys)}, secret: u.Secret, provider: "static"}
		for _, n := range u.Certificates {
			e.Certificates = append(e.Certificates, auth.CertificateName(n))
		}
		d.config = append(d.config, e)
		text = append(text, u.Secret...)
	}
	d.seed = keyed(text, "salts")
	if len(text) == len(c.Name) { // there is nothing secret to make it of
		d.seed = make([]byte, 32)
		_, _ = rand.Read(d.seed) // never fails
	}
	for _, e := range d.config {
		e.seed = d.seed
	}
	d.set(nil)
	if d.file != "" {
		if err := d.read(d.look()); errors.Is(err, fs.ErrNotExist) {
			log.Warn("there is no users file yet; 'postern user add' makes it", "realm", c.Name, "file", d.file)
		} else if err != nil {
			return nil, fmt.Errorf("realm %q: %w", c.Name, err)
		}
	}
	return d, nil
}

func lower(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = strings.ToLower(s)
	}
	return out
}

// set makes the index of the configuration's users and those of a file.
func (d *directory) set(users []User) {
	d.all, d.byName = slices.Clone(d.config), map[string]*entry{}
	for _, e := range d.config {
		d.byName[e.AuthID] = e
	}
	for _, u := range users {
		if d.byName[u.AuthID] != nil {
			continue // the configuration is what its owner sees
		}
		u.PublicKeys = lower(u.PublicKeys)
		e := &entry{User: u, provider: "static"}
		d.byName[u.AuthID] = e
		d.all = append(d.all, e)
	}
}

// look is what the file looks like from outside.
func (d *directory) look() string {
	info, err := os.Stat(d.file)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size(), info.Mode())
}

func (d *directory) read(look string) error {
	d.seen = look
	u, err := ReadUsers(d.file)
	if err != nil {
		return err
	}
	if len(u.Seed) > 0 {
		d.seed = u.Seed
	}
	d.set(u.Users)
	return nil
}

// refresh reads the file again if it has changed. d.mu is held.
func (d *directory) refresh() {
	if d.file == "" {
		return
	}
	if look := d.look(); look != d.seen {
		if err := d.read(look); err != nil {
			d.log.Error("users file: keeping the users that were known", "reason", err)
		} else {
			d.log.Info("users file read again", "file", d.file, "users", len(d.all))
		}
	}
}

// reread is refresh for those who want to know what is wrong with the file.
func (d *directory) reread() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == "" {
		return nil
	}
	look := d.look()
	if look == d.seen {
		return nil
	}
	return d.read(look)
}

// offers reports whether any user can use a method.
func (d *directory) offers(method string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refresh()
	return slices.ContainsFunc(d.all, func(e *entry) bool { return e.has(method) })
}

// user returns a user; nil for none.
func (d *directory) user(authid string) *entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refresh()
	return d.byName[authid]
}

// find returns a user and whether there is such. For a name that is nobody's, or has no credential
// for the method, it makes up somebody who looks like the others.
func (d *directory) find(c *Candidate, method string) (*entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refresh()
	if e := d.byName[c.AuthID]; e != nil && e.has(method) {
		return e, true
	}
	return d.mock(c.AuthID, method), false
}

func (d *directory) mock(authid, method string) *entry {
	var like []*entry
	for _, e := range d.all {
		if e.has(method) {
			like = append(like, e)
		}
	}
	m := &entry{User: User{AuthID: authid}, seed: d.seed, provider: "static", secret: rand.Text()}
	params := auth.DefaultScramParams("", saltFor(d.seed, auth.MethodScram, authid))
	iterations, cra := 0, auth.CRAKey{}
	if len(like) > 0 {
		e := like[binary.BigEndian.Uint32(keyed(d.seed, "like", authid))%uint32(len(like))]
		m.Role = e.Role
		e.mu.Lock()
		defer e.mu.Unlock()
		if t := e.Ticket; t != nil {
			iterations = t.Iterations
		}
		if e.CRA != nil {
			cra = *e.CRA
		}
		if s := e.Scram; s != nil {
			params.KDF, params.Iterations, params.Memory = s.KDF, s.Iterations, s.Memory
		}
	}
	switch method {
	case auth.MethodTicket:
		if iterations > 0 {
			m.Ticket = &auth.TicketHash{Iterations: iterations, Salt: saltFor(d.seed, method, authid), Hash: keyed(d.seed, "none", authid)}
		}
	case auth.MethodCRA:
		if cra.Iterations == 0 {
			cra = auth.CRAKey{Iterations: auth.CRAIterations, KeyLen: 32}
		}
		cra.Salt = auth.TextSalt(saltFor(d.seed, method, authid))
		cra.Key = []byte(rand.Text())
		m.CRA = &cra
	case auth.MethodScram, auth.MethodScramOld:
		m.Scram = auth.MockScramKeys(params)
	}
	return m
}

// byKey finds the user with a public key, of the given name if there is one.
func (d *directory) byKey(authid, pubkey string) *entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refresh()
	pubkey = strings.ToLower(pubkey)
	for _, e := range d.all {
		if (authid == "" || e.AuthID == authid) && slices.Contains(e.PublicKeys, pubkey) {
			return e
		}
	}
	return nil
}

// byCertificate finds the user with the client certificate of a connection.
func (d *directory) byCertificate(authid string, state *tls.ConnectionState) *entry {
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil
	}
	leaf := state.PeerCertificates[0]
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refresh()
	for _, e := range d.all {
		for _, n := range e.Certificates {
			if (authid == "" || e.AuthID == authid) && n.Matches(leaf, len(state.VerifiedChains) > 0) {
				return e
			}
		}
	}
	return nil
}
