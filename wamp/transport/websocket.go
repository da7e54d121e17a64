package transport

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/postern-iot/postern/wamp/codec"
)

// WebSocket makes connections of HTTP requests: WAMP over WebSocket ("WebSocket
// Transport"; RFC 6455). It is a config section as well;
// NewWebSocket gives the defaults.
type WebSocket struct {
	// Origins are the web pages, besides those of the same origin, whose
	// scripts may connect.
	Origins []string `yaml:"origins" doc:"web origins, besides the gateway's own pages, whose scripts may connect: 'https://example.com', 'https://*.example.com', 'http://localhost:*', or '*' for all"`
	// AllowedHosts are the names under which the listener may be addressed;
	// see CheckHost.
	AllowedHosts []string `yaml:"allowed_hosts" doc:"host names that requests may be addressed to, such as 'gateway.lan' or '*.example.com'; when empty, a loopback listener accepts loopback names only, any other all names"`
	// PingInterval is how long a peer may be silent before it is pinged, and
	// PingTimeout how long it may then stay silent.
	PingInterval time.Duration `yaml:"ping_interval" doc:"a client that has been silent for this long is pinged; 0 turns pings off"`
	PingTimeout  time.Duration `yaml:"ping_timeout" doc:"a client that stays silent for this long after a ping is disconnected"`
	WriteTimeout time.Duration `yaml:"write_timeout" doc:"a client that takes no data for this long is disconnected"`
	// Compression is per-message compression (RFC 7692), for clients that offer it.
	// The read limit is that of what has been decompressed as well.
	Compression bool `yaml:"compression" doc:"compresses messages for clients that offer it (permessage-deflate): less on a slow line, for more CPU time"`
	// ReadLimit is the first read limit of every connection, in bytes; 0 means
	// 16 KiB.
	ReadLimit int `yaml:"-"`
}

// NewWebSocket returns the defaults: same origin only, pings after 20 s of
// silence.
func NewWebSocket() WebSocket {
	return WebSocket{
		PingInterval: pingInterval,
		PingTimeout:  pingTimeout,
		WriteTimeout: writeTimeout,
		ReadLimit:    firstReadLimit,
	}
}

// Validate reports patterns and durations that cannot work.
func (ws *WebSocket) Validate(report func(path, problem, hint string)) {
	for i, p := range ws.Origins {
		if _, err := parseOrigin(p); err != nil && p != "*" {
			report(fmt.Sprintf("origins[%d]", i), err.Error(), "write scheme://host[:port], such as https://*.example.com, or *")
		}
	}
	for i, p := range ws.AllowedHosts {
		if p == "" || strings.ContainsAny(p, "/: ") {
			report(fmt.Sprintf("allowed_hosts[%d]", i), fmt.Sprintf("%q is not a host name", p), "write a name without scheme and port, such as gateway.lan")
		}
	}
	validateTimes(report, ws.PingInterval, ws.PingTimeout, ws.WriteTimeout)
}

func validateTimes(report func(path, problem, hint string), interval, timeout, write time.Duration) {
	for _, d := range []struct {
		path string
		is   time.Duration
		hint string
	}{
		{"ping_interval", interval, "a time such as 20s, or 0 for no pings"},
		{"ping_timeout", timeout, "a time such as 20s"},
		{"write_timeout", write, "a time such as 10s"},
	} {
		if d.is < 0 {
			report(d.path, fmt.Sprintf("%v is negative", d.is), d.hint)
		}
	}
}

// Upgrade makes a connection of a request. When it cannot, it has answered the
// request with an HTTP status and a text that says why, and returns that as
// the error.
//
// The first subprotocol that the client offers and we know decides the codec.
// A request without Origin comes from no browser and is accepted.
func (ws *WebSocket) Upgrade(w http.ResponseWriter, r *http.Request) (Conn, error) {
	if err := ws.check(w, r, "WAMP"); err != nil {
		return nil, err
	}
	c, subprotocol := chooseSubprotocol(r)
	if c == nil {
		return nil, refuseUpgrade(w, http.StatusBadRequest, fmt.Errorf("no known WebSocket subprotocol among %q: offer one of %s",
			r.Header.Values("Sec-Websocket-Protocol"), subprotocols()))
	}
	conn := &webSocketConn{}
	header := http.Header{"Sec-Websocket-Protocol": {subprotocol}}
	if cookies := w.Header().Values("Set-Cookie"); len(cookies) > 0 {
		header["Set-Cookie"] = cookies
	}
	conn.deflate = ws.Compression && offersDeflate(r.Header)
	wire, err := upgrade(w, r, header, conn.deflate)
	if err != nil {
		return nil, err
	}
	conn.info = Info{Transport: "websocket", Codec: c, TLS: r.TLS, Header: lasting(r.Header)}
	conn.batched = strings.HasSuffix(subprotocol, batchSuffix)
	conn.init(wire.NetConn(), ws.WriteTimeout, positive(ws.ReadLimit, firstReadLimit))
	conn.open(false)
	conn.startKeepAlive(ws.PingInterval, ws.PingTimeout, conn.control(websocket.PingMessage, nil))
	return conn, nil
}

// lasting is what of a request's header may be asked for later: all but what is
// the handshake's own, as every session keeps it.
func lasting(h http.Header) http.Header {
	out := http.Header{}
	for name, values := range h {
		switch name {
		case "Connection", "Upgrade", "Pragma", "Cache-Control":
		default:
			if !strings.HasPrefix(name, "Sec-Websocket-") {
				out[name] = slices.Clone(values)
			}
		}
	}
	return out
}

// check refuses requests that are no handshake, or come from elsewhere.
func (ws *WebSocket) check(w http.ResponseWriter, r *http.Request, protocol string) error {
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		return refuseUpgrade(w, http.StatusUpgradeRequired, fmt.Errorf("this address speaks %s over WebSocket, and the request is no WebSocket handshake", protocol))
	}
	if err := CheckHost(r, ws.AllowedHosts); err != nil {
		return refuseUpgrade(w, http.StatusForbidden, err)
	}
	if err := checkOrigin(r, ws.Origins); err != nil {
		return refuseUpgrade(w, http.StatusForbidden, err)
	}
	return nil
}

func refuseUpgrade(w http.ResponseWriter, status int, err error) error {
	http.Error(w, err.Error(), status)
	return fmt.Errorf("refused WebSocket request: %w", err)
}

// upgrade does the handshake of a request that has been checked.
func upgrade(w http.ResponseWriter, r *http.Request, header http.Header, deflate bool) (*websocket.Conn, error) {
	if deflate {
		r.Header.Set("Sec-Websocket-Extensions", deflateName) // the library does not look at parameters
	}
	upgrader := websocket.Upgrader{
		HandshakeTimeout:  handshakeTimeout,
		EnableCompression: deflate,     // only to be agreed upon
		WriteBufferPool:   noBuffers{}, // nothing is written through the library
		CheckOrigin:       func(*http.Request) bool { return true },
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			http.Error(w, reason.Error(), status)
		},
	}
	wire, err := upgrader.Upgrade(w, r, header)
	if err != nil {
		return nil, fmt.Errorf("refused WebSocket request: %w", err)
	}
	return wire, nil
}

// chooseSubprotocol takes the first offered one that is known.
func chooseSubprotocol(r *http.Request) (codec.Codec, string) {
	var offered []string
	for _, line := range r.Header.Values("Sec-Websocket-Protocol") {
		for o := range strings.SplitSeq(line, ",") {
			offered = append(offered, strings.TrimSpace(o))
		}
	}
	return firstKnown(offered)
}

// noBuffers keeps the library from allocating a write buffer per connection.
type noBuffers struct{}

func (noBuffers) Get() any { return nil }
func (noBuffers) Put(any)  {}

// webSocketConn is a connection of either side. The library does the handshake;
// frames are read and written here, many in one system call.
type webSocketConn struct {
	link
	client bool
	binary bool
	// Of a batched subprotocol, rest is what Read has not returned yet of the
	// last frame.
	batched bool
	deflate bool // messages are compressed
	batch   batching
	rest    []byte
	code    atomic.Int32 // what Close tells the peer
}

// open begins the life after the handshake.
func (c *webSocketConn) open(client bool) {
	c.client, c.binary = client, c.info.Codec.Binary()
	c.batch.binary = c.binary
	c.code.Store(websocket.CloseNormalClosure)
	c.header = c.dataHeader
}

// Read implements Conn.
func (c *webSocketConn) Read() ([]byte, error) { return c.read(len(c.rest) == 0, c.next) }

func (c *webSocketConn) next() ([]byte, error) {
	if !c.batched {
		return c.frameIn()
	}
	if len(c.rest) == 0 {
		var err error
		if c.rest, err = c.frameIn(); err != nil {
			return nil, err
		}
	}
	m, rest, err := c.batch.cut(c.rest)
	if err != nil {
		c.code.Store(websocket.CloseProtocolError)
		return nil, err
	}
	c.rest = rest
	return m, nil
}

// Write implements Conn.
func (c *webSocketConn) Write(messages ...[]byte) error {
	return c.link.Write(c.deflated(c.inBatches(messages))...)
}

// TryWrite implements Direct.
func (c *webSocketConn) TryWrite(messages ...[]byte) (sent bool, err error) {
	return c.link.TryWrite(c.deflated(c.inBatches(messages))...)
}

// inBatches puts messages together where the subprotocol has it so. Batches of
// several are bounded, so that the peer does not find one too large.
func (c *webSocketConn) inBatches(messages [][]byte) [][]byte {
	if !c.batched {
		return messages
	}
	var frames [][]byte
	var batch []byte
	for _, m := range messages {
		if len(batch) > 0 && len(batch)+len(m) > batchSize {
			frames, batch = append(frames, batch), nil
		}
		batch = c.batch.append(batch, m)
	}
	if len(batch) > 0 {
		frames = append(frames, batch)
	}
	return frames
}

// Close implements Conn.
func (c *webSocketConn) Close() error {
	return c.close(func() []byte {
		return c.control(websocket.CloseMessage, websocket.FormatCloseMessage(int(c.code.Load()), ""))
	})
}

// dataHeader appends the header of an unfragmented message (RFC 6455, 5.2).
func (c *webSocketConn) dataHeader(dst []byte, n int) ([]byte, mask) {
	kind := websocket.TextMessage
	if c.binary {
		kind = websocket.BinaryMessage
	}
	const compressed = 0x40 // RFC 7692, 6
	first := len(dst)
	dst, key := c.appendHeader(dst, kind, n)
	if c.deflate {
		dst[first] |= compressed
	}
	return dst, key
}

func (c *webSocketConn) appendHeader(dst []byte, kind, n int) ([]byte, mask) {
	const final, masked = 0x80, 0x80
	var key mask
	var second byte
	if c.client {
		second = masked
	}
	dst = append(dst, final|byte(kind))
	switch {
	case n < 126:
		dst = append(dst, second|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, second|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, second|127), uint64(n))
	}
	if c.client {
		key.on = true
		rand.Read(key.key[:]) // never fails
		dst = append(dst, key.key[:]...)
	}
	return dst, key
}

// control makes a control frame; its payload is at most 125 bytes.
func (c *webSocketConn) control(kind int, payload []byte) []byte {
	f, key := c.appendHeader(make([]byte, 0, maxHeader+len(payload)), kind, len(payload))
	start := len(f)
	f = append(f, payload...)
	if key.on {
		applyMask(f[start:], key.key, 0)
	}
	return f
}
