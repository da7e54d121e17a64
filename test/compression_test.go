//go:build system

package test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

const squeezed = `
listen:
  http: {addresses: "127.0.0.1:{{http}}", compression: true}
  rawsocket: 127.0.0.1:{{raw}}
  unix: {{unix}}
realms:
  - {name: realm1, anonymous: full}
mqtt: {listen: "127.0.0.1:{{mqtt}}"}
`

// compressing are the clients that offer compression without being asked to.
var compressing = []string{"autobahn-js", "wampy"}

// wire passes connections on and counts what comes back from where it goes.
func wire(t *testing.T, to string) (address string, back *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	back = &atomic.Int64{}
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(counting{in, back}, out); in.Close() }()
		}
	}()
	return ln.Addr().String(), back
}

type counting struct {
	io.Writer
	n *atomic.Int64
}

// Write implements io.Writer.
func (c counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.Writer.Write(p)
}

// TestCompression has clients that offer compression call through it, and looks
// at what goes over the wire.
func TestCompression(t *testing.T) {
	g := run(t, squeezed)
	long := strings.Repeat("postern ", 40_000)
	for _, kind := range kinds {
		if kind.transports[0] != "ws" || !slices.Contains(compressing, kind.name) {
			continue
		}
		for _, codec := range kind.codecs {
			t.Run(kind.name+"/"+codec, func(t *testing.T) {
				at, back := wire(t, fmt.Sprintf("127.0.0.1:%d", g.http))
				c := start(t, kind.program)
				c.connect("ws://"+at+"/ws", codec)
				c.must("register", map[string]any{"uri": "com.example.echo"})
				echo := c.call("com.example.echo", long, "short")
				same(t, "arguments", echo.Args, []any{long, "short"})
				if n := back.Load(); n > int64(len(long))/4 {
					t.Errorf("%d bytes of arguments came in an invocation and a result, as %d bytes: they are not compressed", 2*len(long), n)
				}
				c.do("close", nil)
			})
		}
	}
}
