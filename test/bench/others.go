//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// peer makes the load's connections to one server. The functions that it
// returns send one message; those that it is given are called for each that
// comes.
type peer interface {
	caller(l *loop, payload int, replied func()) (call func(), err error)
	callee(l *loop, payload int) error
	publisher(l *loop, payload int) (publish func(), err error)
	subscriber(l *loop, event func()) error
}

func dialTCP(address string) (net.Conn, error) {
	nc, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err == nil {
		err = nc.SetDeadline(time.Now().Add(30 * time.Second))
	}
	return nc, err
}

// mqttPeer speaks MQTT 3.1.1 with QoS 0. A call is a message on one topic and
// its answer one on another.
type mqttPeer struct{ address string }

const (
	mqttRequest = "bench/request"
	mqttReply   = "bench/reply"
	mqttTopic   = "bench/topic"
)

var mqttClients int

func mqttFrame(kind byte, body []byte) []byte {
	f := []byte{kind}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			f = append(f, b)
			break
		}
		f = append(f, b|0x80)
	}
	return append(f, body...)
}

func mqttString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func mqttPublish(topic string, payload int) []byte {
	return mqttFrame(0x30, append(mqttString(nil, topic), bytesOf(payload)...))
}

// open connects, and subscribes unless topic is empty.
func (m mqttPeer) open(topic string) (net.Conn, error) {
	nc, err := dialTCP(m.address)
	if err != nil {
		return nil, err
	}
	mqttClients++
	connect := append(mqttString(nil, "MQTT"), 4, 2, 0, 0)
	connect = mqttString(connect, "bench"+strconv.Itoa(mqttClients))
	if err := exchange(nc, mqttFrame(0x10, connect), []byte{0x20, 2, 0, 0}); err != nil {
		return nil, err
	}
	if topic == "" {
		return nc, nil
	}
	return nc, exchange(nc, mqttFrame(0x82, append(mqttString([]byte{0, 1}, topic), 0)), []byte{0x90, 3, 0, 1, 0})
}

// exchange sends a request and reads the answer that it must have.
func exchange(nc net.Conn, request, answer []byte) error {
	if _, err := nc.Write(request); err != nil {
		return err
	}
	have := make([]byte, len(answer))
	if _, err := io.ReadFull(nc, have); err != nil {
		return err
	}
	if !bytes.Equal(have, answer) {
		return fmt.Errorf("the answer is %q, want %q", have, answer)
	}
	return nil
}

func mqttSize(b []byte) int {
	n := 0
	for i := 1; i < len(b) && i < 5; i++ {
		n |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return 1 + i + n
		}
	}
	return 0
}

func (m mqttPeer) add(l *loop, topic string, on func(*conn, []byte)) (*conn, error) {
	nc, err := m.open(topic)
	if err != nil {
		return nil, err
	}
	return l.add(nc, mqttSize, on)
}

func (m mqttPeer) caller(l *loop, payload int, replied func()) (func(), error) {
	f := mqttPublish(mqttRequest, payload)
	c, err := m.add(l, mqttReply, func(*conn, []byte) { replied() })
	return func() { c.tail(f) }, err
}

func (m mqttPeer) callee(l *loop, payload int) error {
	f := mqttPublish(mqttReply, payload)
	_, err := m.add(l, mqttRequest, func(c *conn, _ []byte) { c.tail(f) })
	return err
}

func (m mqttPeer) publisher(l *loop, payload int) (func(), error) {
	f := mqttPublish(mqttTopic, payload)
	c, err := m.add(l, "", func(*conn, []byte) {})
	return func() { c.tail(f) }, err
}

func (m mqttPeer) subscriber(l *loop, event func()) error {
	_, err := m.add(l, mqttTopic, func(*conn, []byte) { event() })
	return err
}

// natsPeer speaks the NATS protocol.
type natsPeer struct{ address string }

func (n natsPeer) add(l *loop, subject string, on func(*conn, []byte)) (*conn, error) {
	nc, err := dialTCP(n.address)
	if err != nil {
		return nil, err
	}
	for one := make([]byte, 1); one[0] != '\n'; { // INFO
		if _, err := io.ReadFull(nc, one); err != nil {
			return nil, err
		}
	}
	hello := `CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1","protocol":1,"headers":true,"no_responders":true}` + "\r\n"
	if subject != "" {
		hello += "SUB " + subject + " 1\r\n"
	}
	if err := exchange(nc, []byte(hello+"PING\r\n"), []byte("PONG\r\n")); err != nil {
		return nil, err
	}
	return l.add(nc, natsSize, func(c *conn, f []byte) {
		switch f[0] {
		case 'M':
			on(c, f)
		case 'P':
			if f[1] == 'I' {
				c.tail([]byte("PONG\r\n"))
			}
		case 'I':
		default:
			c.loop.fail(fmt.Errorf("nats-server says %q", f))
		}
	})
}

func natsSize(b []byte) int {
	end := bytes.IndexByte(b, '\n') + 1
	if end == 0 || b[0] != 'M' {
		return end
	}
	n := 0
	for _, c := range b[bytes.LastIndexByte(b[:end], ' ')+1 : end-2] {
		n = 10*n + int(c-'0')
	}
	return end + n + 2
}

func natsPublish(subject, reply string, payload int) []byte {
	b := bytesOf(payload)
	if reply != "" {
		subject += " " + reply
	}
	return fmt.Appendf(nil, "PUB %s %d\r\n%s\r\n", subject, len(b), b)
}

func (n natsPeer) caller(l *loop, payload int, replied func()) (func(), error) {
	f := natsPublish("bench.request", "_INBOX.bench", payload)
	c, err := n.add(l, "_INBOX.bench", func(*conn, []byte) { replied() })
	return func() { c.tail(f) }, err
}

func (n natsPeer) callee(l *loop, payload int) error {
	f := natsPublish("_INBOX.bench", "", payload)
	_, err := n.add(l, "bench.request", func(c *conn, _ []byte) { c.tail(f) })
	return err
}

func (n natsPeer) publisher(l *loop, payload int) (func(), error) {
	f := natsPublish("bench.topic", "", payload)
	c, err := n.add(l, "", func(*conn, []byte) {})
	return func() { c.tail(f) }, err
}

func (n natsPeer) subscriber(l *loop, event func()) error {
	_, err := n.add(l, "bench.topic", func(*conn, []byte) { event() })
	return err
}
