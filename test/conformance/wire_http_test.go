package conformance

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/postern-iot/postern/wamp/codec"
)

// batched is a WebSocket whose frames are batches ("Message Batching").
type batched struct {
	*webSocket
	rest []byte
}

func (b *batched) send(m []byte) error {
	if !b.binary {
		return b.webSocket.send(append(bytes.Clone(m), 0x1e))
	}
	return b.webSocket.send(append(binary.BigEndian.AppendUint32(nil, uint32(len(m))), m...))
}

func (b *batched) receive() ([]byte, error) {
	for len(b.rest) == 0 {
		var err error
		if b.rest, err = b.webSocket.receive(); err != nil {
			return nil, err
		}
	}
	if !b.binary {
		m, rest, ended := bytes.Cut(b.rest, []byte{0x1e})
		if !ended {
			return nil, fmt.Errorf("a batch does not end with a separator: %q", b.rest)
		}
		b.rest = rest
		return m, nil
	}
	if len(b.rest) < 4 || uint64(binary.BigEndian.Uint32(b.rest)) > uint64(len(b.rest)-4) {
		return nil, fmt.Errorf("a batch ends within a message: % x", b.rest)
	}
	n := 4 + binary.BigEndian.Uint32(b.rest)
	m := b.rest[4:n]
	b.rest = b.rest[n:]
	return m, nil
}

// longPoll is a session over HTTP requests ("HTTP Longpoll Transport").
type longPoll struct {
	client *http.Client
	url    string
}

func openLongPoll(g *gateway, c codec.Codec) (link, error) {
	l := &longPoll{client: &http.Client{Timeout: patience, Transport: &http.Transport{}}, url: "http://" + g.http + "/lp"}
	body, err := l.post("/open", []byte(fmt.Sprintf(`{"protocols":[%q]}`, serializers[c].subprotocol)))
	if err != nil {
		return nil, err
	}
	var answer struct{ Protocol, Transport string }
	if err := json.Unmarshal(body, &answer); err != nil || answer.Protocol != serializers[c].subprotocol || answer.Transport == "" {
		return nil, fmt.Errorf("open was answered with %s", body)
	}
	l.url += "/" + answer.Transport
	return l, nil
}

// post returns io.EOF when the session is not there any more.
func (l *longPoll) post(path string, body []byte) ([]byte, error) {
	resp, err := l.client.Post(l.url+path, "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		return nil, io.EOF
	case resp.StatusCode >= 300:
		return nil, fmt.Errorf("%s was answered with %s: %s", path, resp.Status, b)
	}
	return b, nil
}

func (l *longPoll) send(m []byte) error {
	_, err := l.post("/send", m)
	return err
}

func (l *longPoll) receive() ([]byte, error) {
	for {
		b, err := l.post("/receive", nil)
		if err != nil || len(b) > 0 {
			return b, err
		}
	}
}

func (l *longPoll) hangUp() error {
	_, err := l.post("/close", nil)
	return err
}

func (l *longPoll) conn() net.Conn { return requests{link: l} }

// requests is what is below a longPoll; it can only be closed.
type requests struct {
	net.Conn
	link *longPoll
}

func (r requests) Close() error {
	err := r.link.hangUp()
	r.link.client.CloseIdleConnections()
	return err
}
