package router

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postern-iot/postern/wamp/auth"
	"github.com/postern-iot/postern/wamp/transport"
)

// browser joins over WebSocket, with a cookie or without, and returns the last
// message it gets and the cookie it was given.
func browser(t *testing.T, url, cookie string, messages ...string) (last string, given *http.Cookie) {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{"wamp.2.json"}}
	header := http.Header{}
	if cookie != "" {
		header.Set("Cookie", cookieName+"="+cookie)
	}
	conn, resp, err := d.Dial(url, header)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, m := range messages {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
		_, b, err := conn.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		last = string(b)
	}
	for _, c := range resp.Cookies() {
		given = c
	}
	return last, given
}

func TestCookie(t *testing.T) {
	cfg, _ := guardedConfig(t)
	cfg.Cookies = CookieConfig{Lifetime: time.Hour, File: filepath.Join(t.TempDir(), "cookies.json")}
	serve := func() (*Router, string) {
		r, _ := start(t, cfg)
		s := httptest.NewServer(r.Handler(transport.NewWebSocket()))
		t.Cleanup(s.Close)
		return r, "ws" + strings.TrimPrefix(s.URL, "http")
	}
	_, url := serve()
	const byTicket = `[1,"realm1",{"roles":{"caller":{}},"authid":"bob","authmethods":["ticket"]}]`
	const cookieHello = `[1,"realm1",{"roles":{"caller":{}},"authmethods":["cookie"]}]`
	welcome := func(answer, method string) {
		t.Helper()
		if !strings.HasPrefix(answer, "[2,") || !strings.Contains(answer, `"authid":"bob"`) || !strings.Contains(answer, `"authmethod":"`+method+`"`) {
			t.Errorf("%s: %s", method, answer)
		}
	}
	refused := func(answer string) {
		t.Helper()
		if !strings.Contains(answer, "no_matching_auth_method") {
			t.Errorf("not refused: %s", answer)
		}
	}
	answer, given := browser(t, url, "", byTicket, `[5,"bobs",{}]`)
	welcome(answer, "ticket")
	if given == nil || !given.HttpOnly || given.SameSite != http.SameSiteStrictMode || given.MaxAge != 3600 || len(given.Value) < 20 {
		t.Fatalf("cookie %+v", given)
	}
	answer, again := browser(t, url, given.Value, cookieHello)
	welcome(answer, "cookie")
	if again != nil {
		t.Error("a cookie that stands for somebody is replaced")
	}
	// Planted, and tampered with: it stands for nobody, and never will.
	_, unused := browser(t, url, "planted", byTicket, `[5,"bobs",{}]`)
	if unused == nil || unused.Value == "planted" {
		t.Errorf("a planted cookie stays: %+v", unused)
	}
	for _, c := range []string{"", "planted", given.Value + "x", strings.ToLower(given.Value)} {
		answer, _ := browser(t, url, c, cookieHello)
		refused(answer)
	}
	// Who fails gets a cookie that stands for nobody.
	_, nobody := browser(t, url, "", byTicket, `[5,"wrong",{}]`)
	answer, _ = browser(t, url, nobody.Value, cookieHello)
	refused(answer)

	text, err := os.ReadFile(cfg.Cookies.File)
	if err != nil || strings.Contains(string(text), given.Value) {
		t.Errorf("%v: %s", err, text)
	}
	if info, err := os.Stat(cfg.Cookies.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	_, url = serve() // after a restart
	answer, _ = browser(t, url, given.Value, cookieHello)
	welcome(answer, "cookie")

	// The user gets another secret.
	file := cfg.Realms[0].Auth.UsersFile
	users, err := ReadUsers(file)
	if err != nil {
		t.Fatal(err)
	}
	users.Users[0].Ticket = auth.HashTicket("others", nil)
	if err := users.Write(file); err != nil {
		t.Fatal(err)
	}
	answer, fresh := browser(t, url, given.Value, cookieHello)
	refused(answer)
	if fresh == nil {
		t.Error("a cookie that is revoked is not replaced")
	}
	for name, broken := range map[string]string{"junk": "junk", "readable by others": "{}"} {
		mode := os.FileMode(0o600)
		if broken == "{}" {
			mode = 0o644
		}
		if err := os.WriteFile(cfg.Cookies.File, []byte(broken), mode); err != nil {
			t.Fatal(err)
		}
		_ = os.Chmod(cfg.Cookies.File, mode)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: a broken file is accepted", name)
		}
	}
}

func TestCookieJar(t *testing.T) {
	j, err := newJar(CookieConfig{Lifetime: time.Hour}, discard)
	if err != nil {
		t.Fatal(err)
	}
	for range maxCookies + 10 {
		j.bind(auth.NewCookie(), baked{})
	}
	if len(j.cookies) != maxCookies {
		t.Errorf("%d cookies", len(j.cookies))
	}
	j.trim(time.Now().Add(2*time.Hour), maxCookies)
	if len(j.cookies) != 0 {
		t.Errorf("%d cookies that have expired", len(j.cookies))
	}
}
