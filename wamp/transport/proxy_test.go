package transport

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// proxyHeaders are what proxies send, in hexadecimal: of version 1 for IPv4, IPv6
// and unknown, of version 2 for TCP over both, with a value, and of its own.
var proxyHeaders = []struct{ header, remote string }{
	{"50524f5859205443503420 3230332e302e3131332e39 20 3139322e302e322e31 20 35353535 20 3830 0d0a", "203.0.113.9:5555"},
	{"50524f5859205443503620 323030313a6462383a3a31 20 323030313a6462383a3a32 20 31 20 3830 0d0a", "[2001:db8::1]:1"},
	{"50524f585920554e4b4e4f574e0d0a", ""},
	{"50524f585920554e4b4e4f574e20666666 0d0a", ""},
	{"0d0a0d0a000d0a515549540a 21 11 000c cb007109 c0000201 15b3 0050", "203.0.113.9:5555"},
	{"0d0a0d0a000d0a515549540a 21 11 0010 cb007109 c0000201 15b3 0050 04 0001 00", "203.0.113.9:5555"},
	{"0d0a0d0a000d0a515549540a 21 21 0024 20010db8000000000000000000000001 20010db8000000000000000000000002 0001 0050", "[2001:db8::1]:1"},
	{"0d0a0d0a000d0a515549540a 20 00 0000", ""},
	{"0d0a0d0a000d0a515549540a 21 00 0000", ""},
}

func TestProxyHeaders(t *testing.T) {
	for _, c := range proxyHeaders {
		in := append(bytesOf(t, c.header), "rest"...)
		s := &script{sent: bytes.NewReader(in), chunk: 3}
		p, err := readProxy(s)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		have := ""
		if p.remote.IsValid() {
			have = p.remote.String()
		}
		if have != c.remote {
			t.Errorf("%q: %s, want %s", in, have, c.remote)
		}
		if rest, _ := io.ReadAll(s.sent); string(rest) != "rest" {
			t.Errorf("%q: %q was left", in, rest)
		}
	}
}

func TestProxyHeadersThatAreNone(t *testing.T) {
	for _, in := range []string{
		"7ff10000", "474554202f20485454502f312e310d0a0d0a", "16030100",
		// Ports and addresses that are none, of the other family, or too many.
		"50524f5859205443503420 312e322e332e34 20 312e322e332e34 20 39393939393939 20 3830 0d0a",
		"50524f5859205443503420 312e322e332e34 20 312e322e332e34 20 303830 20 3830 0d0a",
		"50524f5859205443503420 3a3a31 20 3a3a31 20 38 20 3830 0d0a",
		"50524f5859205443503420 312e322e332e34 20 312e322e332e34 20 38 20 3830 20 39 0d0a",
		"50524f5859205443503420 312e322e332e34 20 312e322e332e34 20 38 20 3830 0a",
		// Version 3, an unknown command and family, too short, too long, a value cut.
		"0d0a0d0a000d0a515549540a 31 11 000c cb007109 c0000201 15b3 0050",
		"0d0a0d0a000d0a515549540a 2f 11 000c cb007109 c0000201 15b3 0050",
		"0d0a0d0a000d0a515549540a 21 12 000c cb007109 c0000201 15b3 0050",
		"0d0a0d0a000d0a515549540a 21 11 0008 cb007109 c0000201",
		"0d0a0d0a000d0a515549540a 21 11 ffff",
		"0d0a0d0a000d0a515549540a 21 11 000e cb007109 c0000201 15b3 0050 0400",
		// A checksum that is wrong.
		"0d0a0d0a000d0a515549540a 21 11 0013 cb007109 c0000201 15b3 0050 03 0004 00000000",
	} {
		if p, err := readProxy(bytes.NewReader(bytesOf(t, in))); !errors.Is(err, ErrFraming) {
			t.Errorf("%s: %v, %v", in, p, err)
		}
	}
	endless := bytes.NewReader(append([]byte("PROXY TCP4 "), bytes.Repeat([]byte("1"), 1<<16)...))
	if _, err := readProxy(endless); !errors.Is(err, ErrFraming) || endless.Len() < 1<<16-proxyLongest1 {
		t.Errorf("a line without end: %v, %d bytes left", err, endless.Len())
	}
}

// FuzzProxy: whatever comes, no more than a header is taken, and what it says
// does not depend on how it comes.
func FuzzProxy(f *testing.F) {
	for _, c := range proxyHeaders {
		f.Add(bytesOf(f, c.header))
	}
	f.Add([]byte("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole := bytes.NewReader(in)
		p, err := readProxy(whole)
		pieces := &script{sent: bytes.NewReader(in), chunk: 1}
		q, err2 := readProxy(pieces)
		if p != q || (err == nil) != (err2 == nil) || whole.Len() != pieces.sent.Len() {
			t.Fatalf("%v %v %d; by the byte %v %v %d", p, err, whole.Len(), q, err2, pieces.sent.Len())
		}
		if taken := len(in) - whole.Len(); taken > proxyHeader2+proxyLongest2 {
			t.Fatalf("%d bytes were taken", taken)
		}
		if err != nil && p != (proxied{}) {
			t.Fatalf("%v with %v", p, err)
		}
	})
}
