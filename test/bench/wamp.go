//go:build linux

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

const (
	realmName = "realm1"
	procedure = "com.example.bench.procedure"
	topic     = "com.example.bench.topic"
)

// wampPeer makes connections that speak WAMP. Their messages are put together
// from prepared pieces, around a request ID.
type wampPeer struct {
	network, address string
	raw              bool // RawSocket; WebSocket otherwise
	path             string
	codec            codec.Codec
}

// open connects and joins.
func (w *wampPeer) open() (net.Conn, error) {
	nc, err := net.DialTimeout(w.network, w.address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	if w.raw {
		err = w.openRaw(nc)
	} else {
		err = w.openWeb(nc)
	}
	if err == nil {
		err = w.join(nc)
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return nc, nc.SetDeadline(time.Time{})
}

func (w *wampPeer) openRaw(nc net.Conn) error {
	nibble := map[string]byte{"json": 1, "msgpack": 2, "cbor": 3}[w.codec.Name()]
	var answer [4]byte
	_, err := nc.Write([]byte{0x7f, 0xf0 | nibble, 0, 0})
	if err == nil {
		_, err = io.ReadFull(nc, answer[:])
	}
	if err == nil && answer[1]&0x0f != nibble {
		err = fmt.Errorf("RawSocket handshake: refused with %x", answer)
	}
	return err
}

func (w *wampPeer) openWeb(nc net.Conn) error {
	key := base64.StdEncoding.EncodeToString(make([]byte, 16))
	_, err := fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: wamp.2.%s\r\n\r\n",
		w.path, w.address, key, w.codec.Name())
	var answer []byte
	for one := make([]byte, 1); err == nil && !bytes.HasSuffix(answer, []byte("\r\n\r\n")); {
		if _, err = io.ReadFull(nc, one); err == nil {
			answer = append(answer, one[0])
		}
	}
	if err == nil && !bytes.Contains(answer, []byte(" 101 ")) {
		err = fmt.Errorf("WebSocket handshake: %.100q", answer)
	}
	return err
}

func (w *wampPeer) join(nc net.Conn) error {
	roles := wamp.Dict{"caller": wamp.Dict{}, "callee": wamp.Dict{}, "publisher": wamp.Dict{}, "subscriber": wamp.Dict{}}
	answer, err := w.ask(nc, &wamp.Hello{Realm: realmName, Details: wamp.Dict{"roles": roles}})
	if err != nil {
		return err
	}
	if _, ok := answer.(*wamp.Welcome); !ok {
		return fmt.Errorf("joining was answered with %+v", answer)
	}
	return nil
}

// ask sends a request in the setting up and reads its answer.
func (w *wampPeer) ask(nc net.Conn, m wamp.Message) (wamp.Message, error) {
	if err := w.tell(nc, m); err != nil {
		return nil, err
	}
	return w.hear(nc)
}

func (w *wampPeer) tell(nc net.Conn, m wamp.Message) error {
	body, err := w.codec.Append(nil, m)
	if err == nil {
		_, err = nc.Write(append(w.header(nil, len(body)), body...))
	}
	return err
}

func (w *wampPeer) hear(nc net.Conn) (wamp.Message, error) {
	b := make([]byte, 0, 1<<10)
	for size := 0; size == 0 || len(b) < size; size = w.size(b) {
		b = append(b, 0)
		if _, err := io.ReadFull(nc, b[len(b)-1:]); err != nil {
			return nil, err
		}
	}
	return w.codec.Decode(w.body(b), codec.Limits{})
}

// header appends the header of a frame. The WebSocket mask is zero, which
// saves the load the masking; the server cannot know.
func (w *wampPeer) header(dst []byte, n int) []byte {
	if w.raw {
		return append(dst, 0, byte(n>>16), byte(n>>8), byte(n))
	}
	kind := byte(0x81)
	if w.codec.Binary() {
		kind = 0x82
	}
	switch {
	case n < 126:
		dst = append(dst, kind, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, kind, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, kind, 0x80|127), uint64(n))
	}
	return append(dst, 0, 0, 0, 0)
}

// size implements conn.size.
func (w *wampPeer) size(b []byte) int {
	switch {
	case w.raw && len(b) < 4, len(b) < 2:
		return 0
	case w.raw:
		return 4 + int(binary.BigEndian.Uint32(b)&0xffffff)
	case b[1] < 126:
		return 2 + int(b[1])
	case b[1] == 126 && len(b) >= 4:
		return 4 + int(binary.BigEndian.Uint16(b[2:]))
	case b[1] == 127 && len(b) >= 10:
		return 10 + int(binary.BigEndian.Uint64(b[2:]))
	}
	return 0
}

func (w *wampPeer) body(b []byte) []byte {
	switch {
	case w.raw:
		return b[4:]
	case b[1] < 126:
		return b[2:]
	case b[1] == 126:
		return b[4:]
	}
	return b[10:]
}

// template is a message around its request ID.
type template struct {
	peer         *wampPeer
	before, tail []byte
}

// prepare makes the template of [kind, ID, {}, rest…].
func (w *wampPeer) prepare(kind wamp.Kind, rest ...any) (*template, error) {
	t := &template{peer: w}
	n := byte(3 + len(rest))
	switch w.codec.Name() {
	case "json":
		t.before = append(strconv.AppendUint([]byte("["), uint64(kind), 10), ',')
		t.tail = []byte(",")
	case "msgpack":
		t.before = []byte{0x90 | n, byte(kind), 0xce}
	case "cbor":
		t.before = []byte{0x80 | n, byte(kind), 0x1a}
		if kind >= 24 {
			t.before = []byte{0x80 | n, 0x18, byte(kind), 0x1a}
		}
	}
	for i, v := range append([]any{wamp.Dict{}}, rest...) {
		if i > 0 && w.codec.Name() == "json" {
			t.tail = append(t.tail, ',')
		}
		var err error
		if t.tail, err = w.codec.AppendValue(t.tail, v); err != nil {
			return nil, err
		}
	}
	if w.codec.Name() == "json" {
		t.tail = append(t.tail, ']')
	}
	return t, nil
}

func (t *template) send(c *conn, id uint64) {
	var room [20]byte
	digits := room[:0]
	if t.peer.codec.Binary() {
		digits = binary.BigEndian.AppendUint32(digits, uint32(id))
	} else {
		digits = strconv.AppendUint(digits, id, 10)
	}
	c.out = t.peer.header(c.out, len(t.before)+len(digits)+len(t.tail))
	c.out = append(append(c.out, t.before...), digits...)
	c.tail(t.tail)
}

// on makes a frame's handler of a message's: it answers pings, checks the kind,
// and finds the ID after it where that is asked for.
func (w *wampPeer) on(kind wamp.Kind, withID bool, handle func(c *conn, id uint64)) func(*conn, []byte) {
	web := !w.raw
	start := map[string][]byte{
		"json": append(strconv.AppendUint([]byte("["), uint64(kind), 10), ','), "msgpack": {byte(kind)}, "cbor": {0x18, byte(kind)},
	}[w.codec.Name()]
	from := 1
	if w.codec.Name() == "json" {
		from = 0
	}
	return func(c *conn, f []byte) {
		body := w.body(f)
		switch {
		case web && f[0] == 0x89:
			c.out = append(c.out, 0x8a, 0x80|byte(len(body)), 0, 0, 0, 0)
			c.tail(body)
			return
		case len(body) < from+len(start) || !bytes.Equal(body[from:from+len(start)], start):
			c.loop.fail(fmt.Errorf("want message type %d, have %.200q", kind, body))
			return
		}
		var id uint64
		if withID {
			id = w.id(body[from+len(start):])
		}
		handle(c, id)
	}
}

// id reads the integer that b begins with.
func (w *wampPeer) id(b []byte) (id uint64) {
	if w.codec.Name() == "json" {
		for _, c := range b {
			if c < '0' || c > '9' {
				break
			}
			id = 10*id + uint64(c-'0')
		}
		return id
	}
	first := byte(0xcc) // of the integers of one, two, four and eight bytes
	if w.codec.Name() == "cbor" {
		first = 0x18
	}
	if b[0] < first {
		return uint64(b[0])
	}
	width := 1 << min(b[0]-first, 3)
	for _, c := range b[1 : 1+width] {
		id = id<<8 | uint64(c)
	}
	return id
}

var errRefused = errors.New("refused")

func (w *wampPeer) expect(nc net.Conn, m wamp.Message, kind wamp.Kind) error {
	answer, err := w.ask(nc, m)
	if err == nil && answer.Kind() != kind {
		err = fmt.Errorf("%w: %+v", errRefused, answer)
	}
	return err
}

// caller implements peer.
func (w *wampPeer) caller(l *loop, payload int, replied func()) (func(), error) {
	t, err := w.prepare(wamp.KindCall, procedure, values(payload))
	if err != nil {
		return nil, err
	}
	nc, err := w.open()
	if err != nil {
		return nil, err
	}
	c, err := l.add(nc, w.size, w.on(wamp.KindResult, false, func(*conn, uint64) { replied() }))
	id := uint64(0)
	return func() { id++; t.send(c, id) }, err
}

// callee implements peer.
func (w *wampPeer) callee(l *loop, payload int) error {
	t, err := w.prepare(wamp.KindYield, values(payload))
	if err != nil {
		return err
	}
	nc, err := w.open()
	if err != nil {
		return err
	}
	if err := w.expect(nc, &wamp.Register{Request: 1, Procedure: procedure}, wamp.KindRegistered); err != nil {
		return err
	}
	_, err = l.add(nc, w.size, w.on(wamp.KindInvocation, true, t.send))
	return err
}

// publisher implements peer.
func (w *wampPeer) publisher(l *loop, payload int) (func(), error) {
	t, err := w.prepare(wamp.KindPublish, topic, values(payload))
	if err != nil {
		return nil, err
	}
	nc, err := w.open()
	if err != nil {
		return nil, err
	}
	c, err := l.add(nc, w.size, w.on(wamp.KindPublished, false, func(*conn, uint64) {}))
	id := uint64(0)
	return func() { id++; t.send(c, id) }, err
}

// subscriber implements peer.
func (w *wampPeer) subscriber(l *loop, event func()) error {
	nc, err := w.open()
	if err != nil {
		return err
	}
	if err := w.expect(nc, &wamp.Subscribe{Request: 1, Topic: topic}, wamp.KindSubscribed); err != nil {
		return err
	}
	_, err = l.add(nc, w.size, w.on(wamp.KindEvent, false, func(*conn, uint64) { event() }))
	return err
}

// values are the arguments of a message: a reading of about so many bytes.
func values(payload int) []any {
	reading := []any{"living-room.thermometer", 21.53, "Cel", int64(1764000000123), ""}
	b, _ := codec.JSON.AppendValue(nil, reading) // of plain values, which cannot fail
	reading[4] = strings.Repeat("x", max(0, payload-len(b)))
	return reading
}

// bytesOf are the same for those who send plain bytes.
func bytesOf(payload int) []byte {
	b, _ := codec.JSON.AppendValue(nil, values(payload))
	return b
}
