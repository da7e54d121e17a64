package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// shape is a message that a client may send once it has joined, and what its
// fields are: i an ID, t a type code, d a dictionary, u a URI, l a list.
type shape struct {
	message string
	fields  string // one letter for each element
}

var shapes = []shape{
	{`[6,{},"wamp.close.close_realm"]`, "tdu"},
	{`[8,68,1,{},"com.error",[1],{"a":1}]`, "ttiduld"},
	{`[16,1,{"acknowledge":true},"com.a",[1],{"a":1}]`, "tiduld"},
	{`[32,1,{"match":"prefix"},"com.a"]`, "tidu"},
	{`[34,1,1]`, "tii"},
	{`[48,1,{"timeout":1000},"com.a",[1],{"a":1}]`, "tiduld"},
	{`[49,1,{"mode":"kill"}]`, "tid"},
	{`[64,1,{"invoke":"last"},"com.a"]`, "tidu"},
	{`[66,1,1]`, "tii"},
	{`[70,1,{"progress":true},[1],{"a":1}]`, "tidld"},
}

// fromRouter are messages that only a router sends.
var fromRouter = []string{
	`[2,1,{"roles":{}}]`, `[4,"ticket",{}]`, `[17,1,1]`, `[33,1,1]`, `[35,1]`, `[36,1,1,{},[1]]`,
	`[50,1,{},[1]]`, `[65,1,1]`, `[67,1]`, `[68,1,1,{}]`, `[69,1,{}]`,
}

// verdict sends bytes and says how the router took them: "kept" when the
// session goes on, "abort" with the reason when it ended the session with ABORT,
// and "end" when it ended it otherwise.
func verdict(t *testing.T, p *peer, raw []byte) string {
	t.Helper()
	_ = p.link.send(raw)
	const barrier = int64(1)<<53 - 1
	joined := p.inside
	if joined {
		p.say([]any{int64(48), barrier, map[string]any{}, "conformance.barrier"})
	}
	result := "end"
	for {
		m, err := p.hear()
		switch {
		case errors.Is(err, io.EOF):
			return result
		case err != nil:
			t.Fatalf("after %q: %v", raw, err)
		case kindOf(m) == wamp.KindAbort:
			n := names{}
			n.match([]any{int64(3), nameMark + "_", nameMark + "why"}, m)
			result = fmt.Sprint("abort ", n["why"])
		case (names{}).match([]any{int64(8), int64(48), barrier, "..."}, m):
			return "kept"
		}
	}
}

const violation = "abort wamp.error.protocol_violation"

func encode(t *testing.T, c codec.Codec, text string) []byte {
	t.Helper()
	v, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.AppendValue(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// eachCodec attacks one gateway with sessions of each codec, and looks after
// each attack whether others are served.
func eachCodec(t *testing.T, attack func(t *testing.T, c codec.Codec, outside, inside func() *peer)) {
	t.Helper()
	g := run(t, config(nil))
	for _, c := range codecs {
		t.Run(c.Name(), func(t *testing.T) {
			outside := func() *peer { return open(t, g, "unix", c) }
			attack(t, c, outside, func() *peer {
				p := outside()
				p.joins("realm1")
				return p
			})
			served(t, g, "websocket", c)
		})
	}
}

func TestOutOfState(t *testing.T) {
	eachCodec(t, func(t *testing.T, c codec.Codec, outside, inside func() *peer) {
		all := append([]string{`[5,"signature",{}]`}, fromRouter...)
		for _, s := range shapes {
			all = append(all, s.message)
		}
		for _, m := range all {
			b := encode(t, c, m)
			if got := verdict(t, outside(), b); got != violation {
				t.Errorf("%s before HELLO: %s", m, got)
			}
			p := inside()
			p.send(`[6,{},"wamp.close.close_realm"]`)
			_ = p.link.send(b)
			p.expect(`[6,{},"wamp.close.goodbye_and_out"]`)
			p.over()
		}
		for _, m := range append([]string{`[1,"realm1",{"roles":{"caller":{}}}]`, `[5,"signature",{}]`}, fromRouter...) {
			if got := verdict(t, inside(), encode(t, c, m)); got != violation {
				t.Errorf("%s in a session: %s", m, got)
			}
		}
	})
}

// TestWrongTypes puts a value of each wrong type in the place of each field,
// and ids that are none.
func TestWrongTypes(t *testing.T) {
	values := map[string][]string{
		"t": {`null`, `"x"`, `[]`, `{}`, `-1`, `1.5`, `255`, `1e300`},
		"i": {`null`, `"1"`, `[]`, `{}`, `true`, `0`, `-1`, `1.5`, `9007199254740993`, `1e300`},
		"d": {`null`, `"x"`, `[]`, `7`, `true`},
		"u": {`null`, `7`, `[]`, `{}`, `false`},
		"l": {`"x"`, `7`, `{}`, `true`},
	}
	eachCodec(t, func(t *testing.T, c codec.Codec, _, inside func() *peer) {
		for _, s := range shapes {
			v, err := parse(s.message)
			if err != nil {
				t.Fatal(err)
			}
			for i, field := range s.fields {
				for _, wrong := range values[string(field)] {
					list := append([]any{}, v.([]any)...)
					if list[i], err = parse(wrong); err != nil {
						t.Fatal(err)
					}
					b, err := c.AppendValue(nil, list)
					if err != nil {
						t.Fatal(err)
					}
					if got := verdict(t, inside(), b); got != violation {
						t.Errorf("%s: %s", show(list), got)
					}
				}
			}
			for _, n := range []int{1, 2} { // too few elements
				short := v.([]any)[:n]
				b, err := c.AppendValue(nil, short)
				if err != nil {
					t.Fatal(err)
				}
				if got := verdict(t, inside(), b); got != violation {
					t.Errorf("%s: %s", show(short), got)
				}
			}
		}
	})
}

// TestWrongOptions: options of wrong types are an error or an end, and nothing
// else breaks.
func TestWrongOptions(t *testing.T) {
	options := map[string][]string{
		`[16,1,{%q:%s},"com.a"]`: {
			"acknowledge", "exclude_me", "disclose_me", "exclude", "exclude_authid", "exclude_authrole",
			"eligible", "eligible_authid", "eligible_authrole", "retain", "rkey", "ppt_scheme",
		},
		`[32,1,{%q:%s},"com.a"]`: {"match", "get_retained", "nkey"},
		`[48,1,{%q:%s},"com.a"]`: {"timeout", "receive_progress", "progress", "disclose_me", "runmode", "rkey", "ppt_cipher"},
		`[49,1,{%q:%s}]`:         {"mode"},
		`[64,1,{%q:%s},"com.a"]`: {"match", "invoke", "concurrency", "disclose_caller", "force_reregister", "forward_timeout", "nkey"},
	}
	values := []string{`null`, `true`, `-1`, `1.5`, `1e300`, `""`, `"x"`, `[]`, `[null]`, `[[1]]`, `[-1,"x",{}]`, `{}`, `{"a":1}`}
	eachCodec(t, func(t *testing.T, c codec.Codec, _, inside func() *peer) {
		var p *peer
		for message, keys := range options {
			for _, key := range keys {
				for _, value := range values {
					if p == nil {
						p = inside()
					}
					m := fmt.Sprintf(message, key, value)
					switch got := verdict(t, p, encode(t, c, m)); got {
					case "kept":
					case violation:
						p = nil
					default:
						t.Errorf("%s: %s", m, got)
						p = nil
					}
				}
			}
		}
	})
}

// TestBombs: what claims more than it has, or nests without end, costs nothing.
func TestBombs(t *testing.T) {
	text := func(open string) [][]byte {
		var out [][]byte
		for _, n := range []int{100, 15_000} {
			out = append(out, []byte(strings.Repeat(open, n)),
				[]byte(`[16,1,{},"com.a",[`+strings.Repeat("[", n)+strings.Repeat("]", n)+`]]`))
		}
		return out
	}
	bombs := map[codec.Codec][][]byte{
		codec.JSON: append(text("["), []byte(`[1e999999999,{}]`)),
		codec.MessagePack: {
			{0xdd, 0x7f, 0xff, 0xff, 0xff, 0xc0},
			{0xdf, 0x7f, 0xff, 0xff, 0xff, 0xc0},
			{0xdb, 0xff, 0xff, 0xff, 0xff, 'x'},
			{0xc6, 0xff, 0xff, 0xff, 0xff, 0},
			{0xc9, 0xff, 0xff, 0xff, 0xff, 1, 0},
			bytes.Repeat([]byte{0x91}, 15_000),
			bytes.Repeat([]byte{0xdc, 0xff, 0xff}, 5_000),
			append([]byte{0x95, 16, 1, 0x80, 0xa5, 'c', 'o', 'm', '.', 'a'}, bytes.Repeat([]byte{0x91}, 15_000)...),
		},
		codec.CBOR: {
			{0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
			{0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
			{0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
			{0x7b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
			bytes.Repeat([]byte{0x81}, 15_000),
			bytes.Repeat([]byte{0x9f}, 15_000),
			bytes.Repeat([]byte{0xc1}, 15_000),
			append([]byte{0x85, 16, 1, 0xa0, 0x65, 'c', 'o', 'm', '.', 'a'}, bytes.Repeat([]byte{0x81}, 15_000)...),
		},
	}
	eachCodec(t, func(t *testing.T, c codec.Codec, outside, inside func() *peer) {
		for _, b := range bombs[c] {
			for where, p := range map[string]*peer{"before HELLO": outside(), "in a session": inside()} {
				got := verdict(t, p, b)
				if where == "before HELLO" && got == "abort wamp.error.payload_size_exceeded" {
					continue // larger than anything before HELLO may be
				}
				if got != violation {
					t.Errorf("%.40q… %s: %s", b, where, got)
				}
			}
		}
	})
}

// TestMutations cuts valid messages at every byte, and changes some at random;
// whatever it makes of them, the router answers or ends that session.
func TestMutations(t *testing.T) {
	eachCodec(t, func(t *testing.T, c codec.Codec, _, inside func() *peer) {
		random := rand.New(rand.NewPCG(3, 1))
		p := inside()
		try := func(b []byte) {
			if !p.inside {
				_ = p.link.conn().Close()
				p = inside()
			}
			if verdict(t, p, b) != "kept" {
				p.inside = false
			}
		}
		for _, s := range shapes {
			whole := encode(t, c, s.message)
			for n := range whole {
				try(whole[:n])
			}
			for range 60 {
				b := bytes.Clone(whole)
				for range 1 + random.IntN(4) {
					b[random.IntN(len(b))] = byte(random.UintN(256))
				}
				try(b)
			}
		}
	})
}
