package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// poller is a Poller with its accepted connections.
type poller struct {
	*Poller
	t     *testing.T
	conns chan Conn
}

func newTestPoller(t *testing.T, change func(*LongPoll)) *poller {
	opts := NewLongPoll()
	if change != nil {
		change(&opts)
	}
	p := &poller{t: t, conns: make(chan Conn, 100)}
	p.Poller = NewPoller(opts, func(c Conn) bool { p.conns <- c; return true })
	return p
}

// post makes one request, from where the test stands.
func (p *poller) post(path, body string) *httptest.ResponseRecorder {
	return p.request(context.Background(), http.MethodPost, path, body, nil)
}

func (p *poller) request(ctx context.Context, method, path, body string, header map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body)).WithContext(ctx)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// open opens a session and returns its path and the server's end.
func (p *poller) open(protocol string) (string, Conn) {
	p.t.Helper()
	w := p.post("/open?x=1", `{"protocols": ["wamp.9.unknown", "`+protocol+`"]}`)
	var answer struct{ Protocol, Transport string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK || answer.Protocol != protocol || len(answer.Transport) < 26 {
		p.t.Fatalf("open answered %d %q", w.Code, w.Body)
	}
	return "/" + answer.Transport, <-p.conns
}

func (p *poller) want(w *httptest.ResponseRecorder, code int, body string) {
	p.t.Helper()
	if w.Code != code || body != "" && strings.TrimSpace(w.Body.String()) != strings.TrimSpace(body) {
		p.t.Errorf("answer %d %q, want %d %q", w.Code, w.Body, code, body)
	}
}

func TestLongPollCarriesMessages(t *testing.T) {
	for _, tt := range []struct {
		protocol  string
		sent      string   // one request's body
		read      []string // by the server
		write     []string
		received  []string // bodies of the requests that receive
		mediaType string
	}{
		{"wamp.2.json", `[1]`, []string{"[1]"}, []string{"[2]", "[3]"}, []string{"[2]", "[3]"}, "application/json"},
		{"wamp.2.cbor", "\x80", []string{"\x80"}, []string{"\x81\x01"}, []string{"\x81\x01"}, "application/octet-stream"},
		{"wamp.2.msgpack", "\x90", []string{"\x90"}, []string{"\x90"}, []string{"\x90"}, "application/octet-stream"},
		{"wamp.2.json.batched", "[1]\x1e[2]\x1e", []string{"[1]", "[2]"}, []string{"[3]", "[4]"}, []string{"[3]\x1e[4]\x1e"}, "application/json"},
		{"wamp.2.cbor.batched", "\x00\x00\x00\x01\x80\x00\x00\x00\x02\x81\x01", []string{"\x80", "\x81\x01"}, []string{"a", "bc"}, []string{"\x00\x00\x00\x01a\x00\x00\x00\x02bc"}, "application/octet-stream"},
	} {
		t.Run(tt.protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPoller(t, nil)
				path, c := p.open(tt.protocol)
				sent := make(chan *httptest.ResponseRecorder, 1)
				go func() { sent <- p.post(path+"/send", tt.sent) }()
				for _, want := range tt.read {
					if m, err := c.Read(); string(m) != want || err != nil {
						t.Errorf("read %q, %v; want %q", m, err, want)
					}
				}
				p.want(<-sent, http.StatusNoContent, "")
				var out [][]byte
				for _, m := range tt.write {
					out = append(out, []byte(m))
				}
				if err := c.Write(out...); err != nil {
					t.Fatal(err)
				}
				for _, want := range tt.received {
					w := p.post(path+"/receive", "")
					if w.Code != http.StatusOK || w.Body.String() != want || w.Header().Get("Content-Type") != tt.mediaType {
						t.Errorf("received %d %q as %s, want %q", w.Code, w.Body, w.Header().Get("Content-Type"), want)
					}
				}
				p.want(p.post(path+"/close", ""), http.StatusNoContent, "")
				if _, err := c.Read(); err != io.EOF {
					t.Errorf("read after close: %v, want io.EOF", err)
				}
				p.want(p.post(path+"/close", ""), http.StatusNoContent, "") // once more does no harm
				p.want(p.post(path+"/receive", ""), http.StatusGone, "")
				p.want(p.post(path+"/send", "[1]"), http.StatusGone, "")
				<-time.After(longPollLinger + time.Second)
				p.want(p.post(path+"/receive", ""), http.StatusNotFound, "")
				c.Close()
			})
		})
	}
}

// TestLongPollTimes: a receive ends before autobahn-js gives up, waits for what
// comes, and a client that does not come back is ended.
func TestLongPollTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPoller(t, nil)
		path, c := p.open("wamp.2.json")
		begun := time.Now()
		p.want(p.post(path+"/receive", ""), http.StatusNoContent, "")
		if d := time.Since(begun); d != 8*time.Second {
			t.Errorf("an idle receive took %v", d)
		}
		got := make(chan *httptest.ResponseRecorder, 1)
		receive := func(ctx context.Context) {
			go func() { got <- p.request(ctx, http.MethodPost, path+"/receive", "", nil) }()
			synctest.Wait()
		}
		receive(context.Background())
		c.Write([]byte("[1]"))
		p.want(<-got, http.StatusOK, "[1]")

		receive(context.Background())
		receive(context.Background()) // the newer one counts
		p.want(<-got, http.StatusNoContent, "")
		c.Write([]byte("[2]"))
		p.want(<-got, http.StatusOK, "[2]")

		ctx, cancel := context.WithCancel(context.Background())
		receive(ctx)
		cancel()
		<-got
		c.Write([]byte("[3]")) // is not lost with the request that has gone
		p.want(p.post(path+"/receive", ""), http.StatusOK, "[3]")

		begun = time.Now()
		if _, err := c.Read(); err == nil || !strings.Contains(err.Error(), "has not asked for messages for 30s") {
			t.Errorf("read: %v", err)
		}
		if d := time.Since(begun); d != 30*time.Second {
			t.Errorf("an idle session lasted %v", d)
		}
		if err := c.Write([]byte("[4]")); err == nil {
			t.Error("wrote to a session that has ended")
		}
		c.Close()
		<-time.After(longPollLinger)
	})
}

func TestLongPollClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPoller(t, nil)
		path, c := p.open("wamp.2.json")
		c.Write([]byte("[6]"))
		closed := make(chan struct{})
		go func() { defer close(closed); c.Close() }()
		synctest.Wait()
		p.want(p.post(path+"/receive", ""), http.StatusOK, "[6]") // what was written arrives
		<-closed
		p.want(p.post(path+"/receive", ""), http.StatusGone, "")
		if _, err := c.Read(); err != io.EOF {
			t.Errorf("read after Close: %v", err)
		}

		_, c = p.open("wamp.2.json")
		c.Write([]byte("[6]"))
		begun := time.Now()
		c.Close()
		if d := time.Since(begun); d != closeGrace {
			t.Errorf("Close waited %v for a client that has gone", d)
		}

		_, c = p.open("wamp.2.json")
		c.Write([]byte("[6]"))
		<-time.After(closeGrace) // in which it could have been fetched
		begun = time.Now()
		c.Close()
		if d := time.Since(begun); d != 0 {
			t.Errorf("Close waited once more, %v", d)
		}
		<-time.After(longPollLinger)
	})
}

// TestLongPollBounds: what a client may cost.
func TestLongPollBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPoller(t, func(lp *LongPoll) { lp.Sessions, lp.ReadLimit = 2, 16 })
		path, c := p.open("wamp.2.json")
		_, other := p.open("wamp.2.json")
		p.want(p.post("/open", `{"protocols": ["wamp.2.json"]}`), http.StatusServiceUnavailable, "too many connections")
		other.Close()
		_, other = p.open("wamp.2.json") // in the place of the one that ended
		other.Close()

		answer := make(chan *httptest.ResponseRecorder, 1)
		go func() { answer <- p.post(path+"/send", strings.Repeat("x", 17)) }()
		if _, err := c.Read(); !errors.Is(err, ErrTooLarge) {
			t.Errorf("read %v, want ErrTooLarge", err)
		}
		p.want(<-answer, http.StatusRequestEntityTooLarge, "")
		if err := c.Write([]byte("[3]")); err != nil { // to say why it ends
			t.Error(err)
		}
		p.want(p.post(path+"/send", "[1]"), http.StatusServiceUnavailable, errBusy.Error()) // nobody reads
		c.Close()

		_, c = p.open("wamp.2.json")
		begun := time.Now()
		big := bytes.Repeat([]byte("x"), longPollQueue)
		if err := c.Write(big); err != nil {
			t.Fatal(err)
		}
		if err := c.Write(big); err == nil || !strings.Contains(err.Error(), "took no data for 10s") || time.Since(begun) != 10*time.Second {
			t.Errorf("a write to a full queue after %v: %v", time.Since(begun), err)
		}
		c.Close()
		<-time.After(longPollLinger)
	})
}

func TestLongPollRefuses(t *testing.T) {
	p := newTestPoller(t, func(lp *LongPoll) { lp.Origins = []string{"https://good.example"} })
	path, c := p.open("wamp.2.json.batched")
	defer c.Close()
	for _, tt := range []struct {
		name, method, path, body string
		header                   map[string]string
		code                     int
	}{
		{"GET", "GET", "/open", "", nil, 405},
		{"no JSON", "POST", "/open", "hello", nil, 400},
		{"a long offer", "POST", "/open", strings.Repeat(" ", maxOpen+1), nil, 400},
		{"no protocol", "POST", "/open", "{}", nil, 400},
		{"unknown protocols", "POST", "/open", `{"protocols": ["wamp.2.xml", "wamp.2.json.batched.batched"]}`, nil, 400},
		{"another's page", "POST", "/open", `{"protocols": ["wamp.2.json"]}`, map[string]string{"Origin": "https://evil.example"}, 403},
		{"no page at all", "POST", path + "/send", "", map[string]string{"Origin": "null"}, 403},
		{"a good page asks", "OPTIONS", path + "/send", "", map[string]string{"Origin": "https://good.example"}, 204},
		{"no such session", "POST", "/nobody/receive", "", nil, 404},
		{"no such action", "POST", path + "/dance", "", nil, 404},
		{"too deep", "POST", path + "/receive/now", "", nil, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if w := p.request(t.Context(), tt.method, tt.path, tt.body, tt.header); w.Code != tt.code {
				t.Errorf("answer %d %q, want %d", w.Code, w.Body, tt.code)
			}
		})
	}
	r := httptest.NewRequest(http.MethodPost, "http://rebound.example/open", strings.NewReader(`{"protocols": ["wamp.2.json"]}`))
	w := httptest.NewRecorder()
	if p.ServeHTTP(w, r); w.Code != http.StatusForbidden {
		t.Errorf("a rebound name was answered %d", w.Code)
	}
	for _, batch := range []string{"", "[1]", "[1]\x1e[2]"} {
		path, c := p.open("wamp.2.json.batched")
		answer := make(chan int, 1)
		go func() { answer <- p.post(path+"/send", batch).Code }()
		var err error
		for err == nil {
			_, err = c.Read()
		}
		if code := <-answer; !errors.Is(err, ErrFraming) || code != http.StatusBadRequest {
			t.Errorf("batch %q: read %v, answered %d", batch, err, code)
		}
		c.Close()
	}
}
