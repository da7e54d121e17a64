package bridge

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestGuard(t *testing.T) {
	publish := func(n int) string {
		b := []byte{0x30}
		for {
			if n < 0x80 {
				return string(append(b, byte(n))) + strings.Repeat("x", n)
			}
			b = append(b, byte(n&0x7F|0x80))
			n >>= 7
		}
	}
	body := func(head string, n int) string { return head + strings.Repeat("x", n) }
	for name, c := range map[string]struct {
		in string
		ok bool
	}{
		"connack":               {"\x20\x02xx", true},
		"first too large":       {"\x20\x09xxxxxxxxx", false},
		"empty packets":         {"\x20\x02xx\xd0\x00\xd0\x00", true},
		"two-byte length":       {body("\x20\x02xx\x30\x80\x01", 128), true},
		"too large":             {body("\x20\x02xx\x30\x81\x08", 1025), false},
		"five-byte length":      {"\x20\x02xx\x30\x80\x80\x80\x80\x01", false},
		"suback":                {"\x20\x02xx\x90\x04xxxx", true},
		"suback with more":      {"\x20\x02xx\x90\x05xxxxx", false},
		"largest length":        {"\x20\x02xx\x30\xff\xff\xff\x7f", false},
		"a publish, to the end": {"\x20\x02xx" + publish(1000) + "\xd0\x00", true},
	} {
		for _, buffered := range []bool{false, true} {
			a, b := net.Pipe()
			g := &Guard{Conn: a, First: 8, Max: 1024}
			g.Subscribing(2)
			if buffered {
				g.Buffer()
			}
			go func() {
				for i := range c.in { // byte by byte: boundaries must not matter
					if _, err := b.Write([]byte{c.in[i]}); err != nil {
						return
					}
				}
				b.Close()
			}()
			got, err := io.ReadAll(g)
			if c.ok && (err != nil || string(got) != c.in) || !c.ok && !errors.Is(err, ErrPacket) {
				t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(c.in), err)
			}
			a.Close()
		}
	}
}

func TestGuardSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		g := &Guard{Conn: a, Max: 1024, Silence: 3 * time.Second}
		go b.Write([]byte("\x20\x02xx"))
		began := time.Now()
		_, err := io.ReadAll(g)
		if err == nil || !strings.Contains(err.Error(), "nothing heard for 3s") || time.Since(began) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestGuardAbort(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	g := &Guard{Conn: a, Max: 1024}
	reason := errors.New("because")
	g.Abort(reason)
	g.Abort(errors.New("later"))
	if _, err := g.Read(make([]byte, 1)); !errors.Is(err, reason) {
		t.Errorf("Read says %v", err)
	}
	if _, err := g.Write([]byte("x")); !errors.Is(err, reason) {
		t.Errorf("Write says %v", err)
	}
}

// FuzzGuard checks that what passes is within the bounds, however it is cut.
func FuzzGuard(f *testing.F) {
	f.Add([]byte("\x20\x02xx\x30\x05hello\xd0\x00"), uint8(3))
	f.Add([]byte("\x90\xff\xff\xff\x7f"), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		g := &Guard{First: 16, Max: 64}
		for len(b) > 0 {
			n := min(len(b), int(cut)+1)
			if g.inspect(b[:n]) != nil {
				return
			}
			if g.state == inBody && (g.left < 0 || g.left > 64) {
				t.Fatalf("%d bytes let through", g.left)
			}
			b = b[n:]
		}
	})
}
