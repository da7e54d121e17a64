package router

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// pollConn is a client's end of a session over long-poll.
type pollConn struct {
	base   string
	info   transport.Info
	client http.Client
	ctx    context.Context
	cancel context.CancelFunc
	once   sync.Once
}

var pollProtocols = map[string]string{"json": "wamp.2.json", "msgpack": "wamp.2.msgpack", "cbor": "wamp.2.cbor"}

func poll(tb testing.TB, url string, c codec.Codec) *pollConn {
	tb.Helper()
	p := &pollConn{base: url, info: transport.Info{Transport: "longpoll", Codec: c}}
	p.client.Transport = &http.Transport{}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	body, status, err := p.post("/open", fmt.Appendf(nil, `{"protocols": [%q]}`, pollProtocols[c.Name()]))
	if err != nil || status != http.StatusOK {
		tb.Fatalf("open: %d %q, %v", status, body, err)
	}
	var answer struct{ Transport string }
	if err := json.Unmarshal(body, &answer); err != nil {
		tb.Fatal(err)
	}
	p.base += "/" + answer.Transport
	return p
}

func (p *pollConn) post(path string, body []byte) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(p.ctx, http.MethodPost, p.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return answer, resp.StatusCode, err
}

func (p *pollConn) Read() ([]byte, error) {
	for {
		body, status, err := p.post("/receive", nil)
		switch {
		case err != nil:
			return nil, err
		case status == http.StatusOK:
			return body, nil
		case status != http.StatusNoContent:
			return nil, io.EOF
		}
	}
}

func (p *pollConn) Write(messages ...[]byte) error {
	for _, m := range messages {
		if body, status, err := p.post("/send", m); err != nil {
			return err
		} else if status != http.StatusNoContent && status != http.StatusGone && status != http.StatusRequestEntityTooLarge {
			return fmt.Errorf("send: %d %s", status, body)
		}
	}
	return nil
}

func (p *pollConn) SetReadLimit(int)      {}
func (p *pollConn) Info() *transport.Info { return &p.info }
func (p *pollConn) Close() error {
	p.once.Do(func() {
		_, _, _ = p.post("/close", nil) // the router may be gone
		p.cancel()
		p.client.CloseIdleConnections()
	})
	return nil
}
