//go:build linux

package main

import (
	"fmt"

	"github.com/postern-iot/postern/wamp/codec"
)

// row is one work on one server, and what came of it.
type row struct {
	Work      string
	Server    string
	Transport string
	Codecs    string
	Samples   []sample
	Failed    string `json:",omitempty"`

	work     *work
	server   *server
	from, to peer
}

const (
	reading = 100 // bytes: a sensor's reading
	call16  = "call, 16 in flight"
	call1   = "call, 1 in flight"
	callSat = "call, 256 in flight"
	paced   = "call, 2,000/s"
	call1k  = "call of 1 KiB, 4 in flight"
	call64k = "call of 64 KiB, 4 in flight"
	fan1    = "publish 1 to 1, 16 in flight"
	fan100  = "publish 1 to 100, 16 in flight"
	fan1000 = "publish 1 to 1000, 16 in flight"
	many    = "publish 10 × 200/s to 1"
)

var works = []*work{
	{Name: call16, RPC: true, Window: 16, Payload: reading},
	{Name: call1, RPC: true, Window: 1, Payload: reading},
	{Name: callSat, RPC: true, Window: 256, Payload: reading},
	{Name: paced, RPC: true, Rate: 2000, Payload: reading},
	{Name: call1k, RPC: true, Window: 4, Payload: 1 << 10},
	{Name: call64k, RPC: true, Window: 4, Payload: 64 << 10},
	{Name: fan1, Window: 16, Payload: reading, FanOut: 1, Senders: 1},
	{Name: fan100, Window: 16, Payload: reading, FanOut: 100, Senders: 1},
	{Name: fan1000, Window: 16, Payload: reading, FanOut: 1000, Senders: 1},
	{Name: many, Rate: 200, Payload: reading, FanOut: 1, Senders: 10},
}

// inQuick are the works that a quick run leaves in.
var inQuick = map[string]bool{call16: true, call1: true, paced: true, call64k: true, fan100: true, fan1000: true, many: true}

// plan lists what is to be run: every work on every server, and on ours over
// the other transports and codecs.
func plan(servers []*server, quick bool) (rows []*row) {
	for _, w := range works {
		if quick && !inQuick[w.Name] {
			continue
		}
		usual := codec.JSON
		if w.Payload > reading {
			usual = codec.MessagePack
		}
		for _, s := range servers {
			for transport := range s.peers {
				if len(s.peers) == 1 || transport == "websocket" {
					rows = append(rows, newRow(w, s, transport, usual, usual))
				}
			}
			if s.name != "postern" {
				continue
			}
			for _, v := range variants(w.Name, quick) {
				rows = append(rows, newRow(w, s, v.transport, v.from, v.to))
			}
		}
	}
	return rows
}

type variant struct {
	transport string
	from, to  codec.Codec
}

// variants are the transports and codecs beside the usual ones.
func variants(name string, quick bool) (all []variant) {
	js, mp, cb := codec.JSON, codec.MessagePack, codec.CBOR
	switch {
	case name == call16 && quick:
		all = []variant{{"websocket", js, mp}, {"rawsocket", mp, mp}}
	case name == call16:
		for _, transport := range []string{"websocket", "rawsocket", "unix"} {
			for _, from := range codec.All() {
				if transport != "websocket" || from != js {
					all = append(all, variant{transport, from, from})
				}
			}
		}
		all = append(all, variant{"websocket", js, mp}, variant{"websocket", mp, js}, variant{"websocket", js, cb},
			variant{"websocket", cb, js}, variant{"websocket", mp, cb}, variant{"websocket", cb, mp})
	case name == fan100 && !quick:
		all = []variant{{"websocket", js, mp}, {"rawsocket", mp, mp}, {"unix", cb, cb}}
	case name == fan1000 && !quick:
		all = []variant{{"rawsocket", mp, mp}}
	case name == call64k && !quick:
		all = []variant{{"rawsocket", mp, mp}, {"websocket", js, js}, {"websocket", js, mp}}
	case (name == call1 || name == paced) && !quick:
		all = []variant{{"rawsocket", mp, mp}, {"unix", mp, mp}}
	}
	return all
}

func newRow(w *work, s *server, transport string, from, to codec.Codec) *row {
	r := &row{
		Work: w.Name, Server: s.name, Transport: transport,
		work: w, server: s, from: s.peers[transport](from), to: s.peers[transport](to),
	}
	if _, ok := r.from.(*wampPeer); ok {
		r.Codecs = from.Name()
		if to != from {
			r.Codecs = fmt.Sprintf("%s to %s", from.Name(), to.Name())
		}
	}
	return r
}
