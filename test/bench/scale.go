//go:build linux

package main

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// scale is what sizes cost.
type scale struct {
	StartMS  float64 // from the process's start to the first accepted connection
	FreshKiB int     // memory of the fresh process
	Sessions []sessionCost
	Tables   []*row
}

type sessionCost struct {
	Server, Transport string
	Sessions          int
	KiB               float64 // for each session with one subscription
}

// measureSessions opens sessions with one subscription each on a fresh server.
func measureSessions(start func() (*server, error), transport string, n int) (sessionCost, error) {
	s, err := start()
	if err != nil {
		return sessionCost{}, err
	}
	defer s.stop()
	out := sessionCost{Server: s.name, Transport: transport, Sessions: n}
	p := s.peers[transport](codec.JSON)
	open := func(i int) (net.Conn, error) {
		switch p := p.(type) {
		case *wampPeer:
			nc, err := p.open()
			if err == nil {
				err = p.expect(nc, &wamp.Subscribe{Request: 1, Topic: topic + strconv.Itoa(i)}, wamp.KindSubscribed)
			}
			return nc, err
		case mqttPeer:
			return p.open(mqttTopic + strconv.Itoa(i))
		}
		return nil, fmt.Errorf("%T opens no sessions here", p)
	}
	warm, err := open(n) // what the first session costs, all have
	if err != nil {
		return out, err
	}
	defer warm.Close()
	before, err := s.rss()
	if err != nil {
		return out, err
	}
	for i := range n {
		nc, err := open(i)
		if err != nil {
			return out, fmt.Errorf("session %d: %w", i, err)
		}
		defer nc.Close()
	}
	time.Sleep(time.Second) // what was garbage on the way may be collected
	after, err := s.rss()
	out.KiB = float64(after-before) / float64(n)
	return out, err
}

// table is a server with many subscriptions or registrations that what is sent
// does not match.
type table struct {
	name string
	rpc  bool
	fill func(i int) wamp.Message
	kind wamp.Kind
}

func tables() []table {
	subscribe := func(match wamp.Match, uri string) func(int) wamp.Message {
		return func(i int) wamp.Message {
			return &wamp.Subscribe{Request: wamp.ID(i + 1), Options: wamp.SubscribeOptions{Match: match}, Topic: fmt.Sprintf(uri, i)}
		}
	}
	register := func(match wamp.Match, uri string) func(int) wamp.Message {
		return func(i int) wamp.Message {
			return &wamp.Register{Request: wamp.ID(i + 1), Options: wamp.RegisterOptions{Match: match}, Procedure: fmt.Sprintf(uri, i)}
		}
	}
	const exact, wildcard = "com.example.bench.table.t%d", "com..bench.table.t%d"
	return []table{
		{name: "publish past nothing"},
		{"publish past exact subscriptions", false, subscribe(wamp.MatchExact, exact), wamp.KindSubscribed},
		{"publish past prefix subscriptions", false, subscribe(wamp.MatchPrefix, exact), wamp.KindSubscribed},
		{"publish past wildcard subscriptions", false, subscribe(wamp.MatchWildcard, wildcard), wamp.KindSubscribed},
		{name: "call past nothing", rpc: true},
		{"call past exact registrations", true, register(wamp.MatchExact, exact), wamp.KindRegistered},
		{"call past prefix registrations", true, register(wamp.MatchPrefix, exact), wamp.KindRegistered},
		{"call past wildcard registrations", true, register(wamp.MatchWildcard, wildcard), wamp.KindRegistered},
	}
}

// measureTables measures them all, on a fresh server each, in turns.
func measureTables(b *bench, n, rounds int, d time.Duration) (rows []*row, err error) {
	for _, t := range tables() {
		s, err := b.startPostern()
		if err != nil {
			return nil, err
		}
		defer s.stop()
		if t.fill != nil {
			nc, err := fillTable(s, t, n)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			defer nc.Close()
		}
		w := &work{Name: fmt.Sprintf("%s (%d)", t.name, n), RPC: t.rpc, Window: 16, Payload: reading}
		if t.fill == nil {
			w.Name = t.name
		}
		if !t.rpc {
			w.FanOut, w.Senders = 1, 1
		}
		rows = append(rows, newRow(w, s, "websocket", codec.JSON, codec.JSON))
	}
	for range rounds {
		for _, r := range rows {
			r.run(d)
		}
	}
	return rows, nil
}

// fillTable fills a table from one session, a thousand at a time.
func fillTable(s *server, t table, n int) (net.Conn, error) {
	w := s.peers["rawsocket"](codec.CBOR).(*wampPeer)
	nc, err := w.open()
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	for done := 0; done < n; {
		batch := min(1000, n-done)
		var out []byte
		for i := range batch {
			body, err := w.codec.Append(nil, t.fill(done+i))
			if err != nil {
				return nil, err
			}
			out = append(w.header(out, len(body)), body...)
		}
		if _, err := nc.Write(out); err != nil {
			return nil, err
		}
		for range batch {
			m, err := w.hear(nc)
			if err != nil {
				return nil, err
			}
			if m.Kind() != t.kind {
				return nil, fmt.Errorf("%w: %+v", errRefused, m)
			}
		}
		done += batch
	}
	return nc, nc.SetDeadline(time.Time{})
}
