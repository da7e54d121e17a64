package transport

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/postern-iot/postern/wamp/codec"
)

// maxOpen bounds the body of a request that opens a session.
const maxOpen = 4 << 10

// Poller is the http.Handler of the long-poll transport: open, and
// {id}/receive, {id}/send, {id}/close, below the path at which it is mounted.
// It has no goroutines.
type Poller struct {
	opts   LongPoll
	accept func(Conn) bool

	mu    sync.Mutex
	conns map[string]*longPollConn // those that have just ended included
}

// NewPoller gives every connection that a client opens to accept, which says
// whether it is welcome, without waiting for its end.
func NewPoller(opts LongPoll, accept func(Conn) bool) *Poller {
	return &Poller{opts: opts, accept: accept, conns: map[string]*longPollConn{}}
}

// ServeHTTP implements http.Handler.
//
// Success is 200 with a body and 204 without one, where the text has 202:
// autobahn-js takes anything else for a failure.
func (p *Poller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	err := CheckHost(r, p.opts.AllowedHosts)
	if err == nil {
		err = checkOrigin(r, p.opts.Origins)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true") // autobahn-js asks for it; a WebSocket has them anyway
		w.Header().Set("Vary", "Origin")
	}
	switch r.Method {
	case http.MethodPost:
	case http.MethodOptions: // a browser asks whether another origin's page may
		w.Header().Set("Access-Control-Allow-Methods", "POST")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", "POST, OPTIONS")
		http.Error(w, "long-poll wants POST", http.StatusMethodNotAllowed)
		return
	}
	id, action, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if id == "open" && action == "" {
		p.open(w, r)
		return
	}
	p.mu.Lock()
	c := p.conns[id]
	p.mu.Unlock()
	switch {
	case c == nil:
		http.Error(w, "there is no such session", http.StatusNotFound)
	case action == "receive":
		c.serveReceive(w, r)
	case action == "send":
		c.serveSend(w, r)
	case action == "close":
		c.finish(io.EOF)
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "a session knows receive, send and close", http.StatusNotFound)
	}
}

func (p *Poller) open(w http.ResponseWriter, r *http.Request) {
	var offer struct {
		Protocols []string `json:"protocols"`
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxOpen+1))
	if err == nil && len(body) > maxOpen {
		err = fmt.Errorf("it is larger than %d bytes", maxOpen)
	}
	if err == nil {
		err = json.Unmarshal(body, &offer)
	}
	if err != nil {
		http.Error(w, `the body is not like {"protocols": ["wamp.2.json"]}: `+err.Error(), http.StatusBadRequest)
		return
	}
	cd, protocol := firstKnown(offer.Protocols)
	if cd == nil {
		http.Error(w, "no known protocol is offered: offer one of "+subprotocols(), http.StatusBadRequest)
		return
	}
	c := newLongPollConn(rand.Text(), Info{
		Transport: "longpoll", Codec: cd, Remote: requestAddr(r.RemoteAddr), Local: localAddr(r), TLS: r.TLS, Header: r.Header,
	}, strings.HasSuffix(protocol, batchSuffix), p.opts)
	if !p.add(c) || !p.accept(c) {
		c.finish(io.EOF)
		p.remove(c)
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// When the client has gone, the session ends for want of requests.
	_ = json.NewEncoder(w).Encode(map[string]string{"protocol": protocol, "transport": c.id})
}

// firstKnown takes the first offered protocol that is known.
func firstKnown(offered []string) (codec.Codec, string) {
	for _, o := range offered {
		for _, s := range serializations {
			if o == s.subprotocol || o == s.subprotocol+batchSuffix {
				return s.codec, o
			}
		}
	}
	return nil, ""
}

// add takes a connection in; one that has ended makes room where there is none.
func (p *Poller) add(c *longPollConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := positive(p.opts.Sessions, 1024)
	if len(p.conns) >= most {
		for id, other := range p.conns {
			select {
			case <-other.done:
				delete(p.conns, id)
			default:
			}
		}
	}
	if len(p.conns) >= most {
		return false
	}
	p.conns[c.id] = c
	c.mu.Lock()
	c.forget = func() { p.remove(c) }
	c.mu.Unlock()
	return true
}

func (p *Poller) remove(c *longPollConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c.id)
}

func (c *longPollConn) serveReceive(w http.ResponseWriter, r *http.Request) {
	p := c.poll()
	defer c.polled(p)
	timer := time.NewTimer(positive(c.opts.ReceiveTimeout, 8*time.Second))
	defer timer.Stop()
	for r.Context().Err() == nil {
		if body, ok := c.take(p); ok {
			kind := "application/octet-stream"
			if !c.info.Codec.Binary() {
				kind = "application/json"
			}
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write(body) // a client that has gone will miss it: the transport has no receipts
			return
		}
		select {
		case <-p.wake:
			continue
		case <-r.Context().Done():
		case <-p.replaced:
			w.WriteHeader(http.StatusNoContent)
		case <-timer.C:
			w.WriteHeader(http.StatusNoContent)
		case <-c.done:
			http.Error(w, errEnded.Error(), http.StatusGone)
		}
		return
	}
}

func (c *longPollConn) serveSend(w http.ResponseWriter, r *http.Request) {
	// One at a time: a session costs the memory of one body.
	select {
	case c.sending <- struct{}{}:
		defer func() { <-c.sending }()
	case <-c.done:
	case <-r.Context().Done():
		return
	}
	if c.over() {
		http.Error(w, errEnded.Error(), http.StatusGone)
		return
	}
	limit := c.limit.Load()
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	if int64(len(body)) > limit {
		err := tooLarge(uint64(max(r.ContentLength, int64(len(body)))), limit)
		_ = c.deliver(arrived{err: err}, r.Context().Done()) // the answer says it as well
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	switch err := c.deliverAll(body, r.Context().Done()); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, ErrFraming):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, errBusy):
		// Some of a batch may have been taken, so the session cannot go on.
		c.finish(err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		http.Error(w, errEnded.Error(), http.StatusGone)
	}
}

func (c *longPollConn) deliverAll(body []byte, gone <-chan struct{}) error {
	if !c.batched {
		return c.deliver(arrived{message: body}, gone)
	}
	for more := true; more; more = len(body) > 0 {
		m, rest, err := c.batch.cut(body)
		if err != nil {
			_ = c.deliver(arrived{err: err}, gone) // the answer says it as well
			return err
		}
		if err := c.deliver(arrived{message: m}, gone); err != nil {
			return err
		}
		body = rest
	}
	return nil
}
