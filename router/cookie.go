package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/postern-iot/postern/router/realm"
	"github.com/postern-iot/postern/wamp/auth"
)

// cookieName is the cookie's name in browsers.
const cookieName = "postern"

// maxCookies bounds the cookies that are remembered; the oldest go first.
const maxCookies = 4096

// jar remembers which cookies stand for whom. A cookie is given out with a
// WebSocket handshake, and stands for nobody until that very connection has
// authenticated by another method: one that somebody else has planted in a
// browser never becomes its user's.
type jar struct {
	cfg CookieConfig
	log *slog.Logger
	// valid reports whether a user is still who it was.
	valid func(baked) bool

	mu      sync.Mutex
	cookies map[string]baked // by auth.CookieKey
}

// baked is what a cookie stands for.
type baked struct {
	Realm    string    `json:"realm"`
	AuthID   string    `json:"authid"`
	Role     string    `json:"role"`
	Provider string    `json:"provider"`
	Stamp    string    `json:"stamp,omitempty"` // of a user in a directory
	Expires  time.Time `json:"expires"`
}

// newJar reads the file. One that cannot be understood is an error: it would be
// overwritten.
func newJar(cfg CookieConfig, log *slog.Logger) (*jar, error) {
	j := &jar{cfg: cfg, log: log, cookies: map[string]baked{}}
	if cfg.Lifetime <= 0 || cfg.File == "" {
		return j, nil
	}
	f, err := os.Open(cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cookies file: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("cookies file %q may be read or changed by others: chmod 0600 it", cfg.File)
	}
	if err := json.NewDecoder(io.LimitReader(f, maxUsersFile)).Decode(&j.cookies); err != nil {
		return nil, fmt.Errorf("cookies file %q: %w", cfg.File, err)
	}
	j.trim(time.Now(), maxCookies)
	return j, nil
}

// trim forgets what has expired, and the oldest above n. j.mu is held.
func (j *jar) trim(now time.Time, n int) {
	for key, b := range j.cookies {
		if now.After(b.Expires) {
			delete(j.cookies, key)
		}
	}
	for len(j.cookies) > n {
		oldest, at := "", time.Time{}
		for key, b := range j.cookies {
			if oldest == "" || b.Expires.Before(at) {
				oldest, at = key, b.Expires
			}
		}
		delete(j.cookies, oldest)
	}
}

// find returns what the cookie in a request's header stands for.
func (j *jar) find(header http.Header) (baked, bool) {
	if j.cfg.Lifetime <= 0 || header == nil {
		return baked{}, false
	}
	c, err := (&http.Request{Header: header}).Cookie(cookieName)
	if err != nil {
		return baked{}, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	b, ok := j.cookies[auth.CookieKey(c.Value)]
	return b, ok && time.Now().Before(b.Expires)
}

// offer puts a new cookie into the answer to a WebSocket handshake, unless the
// request has one that stands for somebody, and returns it.
func (j *jar) offer(w http.ResponseWriter, req *http.Request) string {
	if b, known := j.find(req.Header); known && j.valid(b) || j.cfg.Lifetime <= 0 {
		return ""
	}
	value := auth.NewCookie()
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: int(j.cfg.Lifetime / time.Second),
		HttpOnly: true, Secure: req.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
	return value
}

// bind makes a cookie stand for a user who has just authenticated.
func (j *jar) bind(value string, b baked) {
	b.Expires = time.Now().Add(j.cfg.Lifetime)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.trim(time.Now(), maxCookies-1)
	j.cookies[auth.CookieKey(value)] = b
	if j.cfg.File == "" {
		return
	}
	text, err := json.Marshal(j.cookies)
	if err == nil {
		err = replaceFile(j.cfg.File, text)
	}
	if err != nil {
		j.log.Error("cookies will not outlive a restart", "reason", err)
	}
}

// byCookie authenticates by the cookie of an earlier session.
type byCookie struct {
	jar *jar
}

// Method implements Authenticator.
func (*byCookie) Method() string { return auth.MethodCookie }

// able implements selective. A cookie ends with its user, and with any change
// to the user's role or credentials.
func (a *byCookie) able(c *Candidate) bool {
	_, ok := a.find(c)
	return ok
}

func (a *byCookie) find(c *Candidate) (baked, bool) {
	b, ok := a.jar.find(c.Conn.Header)
	if !ok || c.Conn.Transport != "websocket" || b.Realm != c.Realm || c.AuthID != "" && c.AuthID != b.AuthID {
		return baked{}, false
	}
	return b, a.jar.valid(b)
}

// Authenticate implements Authenticator.
func (a *byCookie) Authenticate(_ context.Context, c *Candidate) (realm.Identity, error) {
	b, ok := a.find(c)
	if !ok {
		return realm.Identity{}, errDenied
	}
	return realm.Identity{AuthID: b.AuthID, AuthRole: b.Role, AuthMethod: auth.MethodCookie, AuthProvider: b.Provider}, nil
}

// stampOf is the stamp of a user in the realm's directory, "" for who comes from
// elsewhere.
func (d *door) stampOf(id *realm.Identity) string {
	if d == nil || id.AuthProvider != "static" || id.AuthMethod == auth.MethodAnonymous || id.AuthMethod == methodLocal {
		return ""
	}
	if e := d.users.user(id.AuthID); e != nil {
		return e.stamp()
	}
	return "gone"
}

// remember binds the cookie that the connection was given to who it has proved
// to be.
func (s *session) remember(h *hall) {
	id := s.member.Identity
	if s.cookie == "" || id.AuthMethod == auth.MethodAnonymous || id.AuthMethod == auth.MethodCookie {
		return
	}
	s.router.cookies.bind(s.cookie, baked{
		Realm: h.cfg.Name, AuthID: id.AuthID, Role: id.AuthRole, Provider: id.AuthProvider, Stamp: s.stamp,
	})
}

// validate reports what is wrong with a lifetime.
func (c *CookieConfig) validate(report func(path, problem, hint string)) {
	if c.Lifetime < 0 {
		report("cookies.lifetime", "it is less than 0", "write 0s for no cookies, or such as 720h")
	}
}
