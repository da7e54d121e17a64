package conformance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

// descriptors is how many the process has open.
func (g *gateway) descriptors() int {
	g.tb.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err != nil {
		g.tb.Fatal(err)
	}
	return len(entries)
}

// resident is how much memory the process has, in MiB.
func (g *gateway) resident() int {
	g.tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		g.tb.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		g.tb.Fatalf("no VmRSS in %q", b)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		g.tb.Fatal(err)
	}
	return n >> 10
}

// metric is a number from /metrics, the sum over all labels.
func (g *gateway) metric(name string) float64 {
	g.tb.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + g.http + "/metrics")
	if err != nil {
		g.tb.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.tb.Fatal(err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(rest)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			g.tb.Fatalf("%s: %v", line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		g.tb.Fatalf("no metric %s", name)
	}
	return sum
}

// TestSilence: connections that say nothing, or a byte at a time, keep nobody
// from being served, and are ended.
func TestSilence(t *testing.T) {
	g := run(t, "limits: {handshake_timeout: 1s}\n"+config(nil))
	var silent, unknown []net.Conn
	for i := range 300 {
		address := []string{g.raw, g.http}[i%2]
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		silent = append(silent, nc)
		switch i % 6 { // some get further than others
		case 0:
			_, err = nc.Write([]byte{0x7f})
		case 2:
			_, err = nc.Write([]byte{0x7f, 0xf1, 0, 0, 0, 0})
		case 3:
			_, err = io.WriteString(nc, "GET /ws HTTP/1.1\r\nHost:")
		case 4:
			_, err = nc.Write([]byte{0x7f, 0xf1, 0, 0, 0, 0, 1, 0, '['})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// On the port for everything, where it is not known yet what they speak.
	for i := range 100 {
		nc, err := net.Dial("tcp", g.universal)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		first := []string{"", "\x16", "\x16\x03\x01\x02\x00\x01", "\x7f\xf1"}[i%4]
		if _, err := io.WriteString(nc, first); err != nil {
			t.Fatal(err)
		}
		unknown = append(unknown, nc)
	}
	for _, tr := range transports {
		served(t, g, tr.name, tr.codecs[0])
	}
	for i, nc := range silent {
		if i%2 == 1 {
			continue // HTTP has a timeout of its own, for slow lines
		}
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, nc); err != nil && ended(err) != io.EOF {
			t.Fatalf("connection %d has not been ended: %v", i, err)
		}
	}
	for i, nc := range unknown {
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, nc); err != nil && ended(err) != io.EOF {
			t.Fatalf("connection %d of those that share a port has not been ended: %v", i, err)
		}
	}
}

// TestHandshakes sends RawSocket handshakes and frames that are none.
func TestHandshakes(t *testing.T) {
	g := run(t, config(nil))
	for _, attack := range []struct {
		name   string
		bytes  []byte
		answer []byte // how it begins; nil for nothing but the end
	}{
		{"not the magic octet", []byte("GET / HT"), nil},
		{"serializer 0", []byte{0x7f, 0xf0, 0, 0}, []byte{0x7f, 0x10, 0, 0}},
		{"serializer 15", []byte{0x7f, 0xff, 0, 0}, []byte{0x7f, 0x10, 0, 0}},
		{"reserved octets", []byte{0x7f, 0xf1, 0, 1}, []byte{0x7f, 0x30, 0, 0}},
		{"frame type 3", []byte{0x7f, 0xf1, 0, 0, 3, 0, 0, 0}, []byte{0x7f, 0xb1, 0, 0}},
		{"frame type 7", []byte{0x7f, 0xf2, 0, 0, 7, 0, 0, 0}, []byte{0x7f, 0xb2, 0, 0}},
		{"reserved bits", []byte{0x7f, 0xf1, 0, 0, 0x80, 0, 0, 1, '['}, []byte{0x7f, 0xb1, 0, 0}},
		{"16 MiB announced", []byte{0x7f, 0xf1, 0, 0, 0, 0xff, 0xff, 0xff}, []byte{0x7f, 0xb1, 0, 0}},
		{"a ping of 16 MiB announced", []byte{0x7f, 0xf1, 0, 0, 1, 0xff, 0xff, 0xff}, []byte{0x7f, 0xb1, 0, 0}},
	} {
		nc, err := net.Dial("tcp", g.raw)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write(attack.bytes)
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		got, err := io.ReadAll(nc)
		if err != nil && ended(err) != io.EOF {
			t.Errorf("%s: not ended: %v", attack.name, err)
		}
		want := string(attack.answer)
		if len(want) == 4 && want[1]&15 != 0 && len(got) > 1 { // how much the router takes is its own business
			want = string([]byte{attack.answer[0], got[1]&0xf0 | attack.answer[1]&15, 0, 0})
		}
		if !strings.HasPrefix(string(got), want) || want == "" && len(got) > 0 && got[0] == 0x7f && got[1]&15 != 0 {
			t.Errorf("%s: answered with % x, want % x", attack.name, got, want)
		}
		nc.Close()
	}
	// In pieces, with HELLO right behind.
	nc, err := net.Dial("tcp", g.raw)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	hello := frame(0, []byte(`[1,"realm1",{"roles":{"caller":{}}}]`))
	for _, b := range append([]byte{0x7f, 0xf1, 0, 0}, hello...) {
		if _, err := nc.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(nc, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	p := &peer{tb: t, codec: codec.JSON, link: &rawSocket{base{nc, bufio.NewReader(nc)}}}
	p.expect(`[2,$_,{"...":0}]`)
	served(t, g, "rawsocket", codec.CBOR)
}

// TestSubscribeFlood: each of 20,000 requests sent at once is answered.
func TestSubscribeFlood(t *testing.T) {
	g := run(t, config(nil))
	const n = 20_000
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			p := open(t, g, tr.name, tr.codecs[len(tr.codecs)/2])
			p.joins("realm1")
			var sending sync.WaitGroup
			sending.Go(func() {
				for i := range n {
					p.say([]any{int64(32), int64(i + 1), map[string]any{}, fmt.Sprintf("com.flood.t%d", i)})
				}
			})
			for i := range n {
				p.expect(fmt.Sprintf(`[33,%d,$_]`, i+1))
			}
			sending.Wait()
			served(t, g, tr.name, tr.codecs[0])
			_ = p.link.conn().Close()
		})
	}
}

// TestSlowReaders has sessions subscribe and never read, within little memory:
// they lose their events or their sessions, everybody else is served, and the
// memory stays where it is.
func TestSlowReaders(t *testing.T) {
	g := run(t, "limits: {queue_bytes: 1MiB, queue_age: 2s}\n"+config(nil), "GOMEMLIMIT=64MiB")
	const readers = 50
	for range readers {
		p := open(t, g, "rawsocket", codec.MessagePack)
		p.joins("realm1")
		p.send(`[32,1,{},"com.flood"]`)
		p.expect(`[33,1,$_]`)
	}
	good := open(t, g, "websocket", codec.JSON)
	good.joins("realm1")
	good.send(`[32,1,{},"com.other"]`)
	good.expect(`[33,1,$_]`)
	pub := open(t, g, "rawsocket", codec.MessagePack)
	pub.joins("realm1")
	junk := strings.Repeat("x", 64<<10)
	most := 0
	for i := range 300 {
		pub.say([]any{int64(16), int64(2*i + 1), map[string]any{}, "com.flood", []any{junk}})
		pub.say([]any{int64(16), int64(2*i + 2), map[string]any{"acknowledge": true}, "com.other", []any{int64(i)}})
		pub.expect(fmt.Sprintf(`[17,%d,$_]`, 2*i+2))
		good.expect(fmt.Sprintf(`[36,$_,$_,{},[%d]]`, i))
		most = max(most, g.resident())
	}
	t.Logf("%d readers that do not read, 300 events of 64 KiB: at most %d MiB resident", readers, most)
	if most > 200 {
		t.Errorf("%d MiB resident", most)
	}
	served(t, g, "rawsocket", codec.CBOR)
	until(t, "the sessions that do not read are ended", func() bool { return g.descriptors() < readers })
	served(t, g, "rawsocket", codec.CBOR)
}

// TestConnectDisconnect: a thousand sessions leave nothing behind, however they
// end.
func TestConnectDisconnect(t *testing.T) {
	g := run(t, config(nil))
	session := func(i int) {
		tr := transports[i%len(transports)]
		p := open(t, g, tr.name, tr.codecs[i/len(transports)%len(tr.codecs)])
		defer p.link.conn().Close()
		if i%4 == 0 {
			return
		}
		p.joins("realm1")
		p.send(fmt.Sprintf(`[32,1,{},"com.t%d"]`, i))
		p.send(fmt.Sprintf(`[64,2,{},"com.p%d"]`, i))
		p.expect(`[33,1,$_]`)
		p.expect(`[65,2,$_]`)
		if i%4 == 1 {
			p.send(`[6,{},"wamp.close.close_realm"]`)
			p.expect(`[6,{},"wamp.close.goodbye_and_out"]`)
			p.over()
		}
	}
	for i := range 50 {
		session(i)
	}
	settled := func(goroutines, descriptors int) bool {
		return g.descriptors() <= descriptors && int(g.metric("postern_goroutines")) <= goroutines
	}
	var goroutines, descriptors int
	until(t, "the first sessions are gone", func() bool {
		goroutines, descriptors = int(g.metric("postern_goroutines")), g.descriptors()
		return descriptors < 30
	})
	for i := range 1000 {
		session(i)
	}
	until(t, "goroutines and descriptors are where they were", func() bool { return settled(goroutines+2, descriptors+2) })
	t.Logf("%d goroutines, %d descriptors, %d MiB resident", goroutines, descriptors, g.resident())
	served(t, g, "unix", codec.JSON)
}

// TestTooLarge: a message above the limit ends the session that sent it, with
// the reason.
func TestTooLarge(t *testing.T) {
	g := run(t, config(nil))
	everywhere(t, g, func(t *testing.T, dial func() *peer) {
		p := dial()
		p.joins("realm1")
		p.say([]any{int64(16), int64(1), map[string]any{}, "com.a", []any{strings.Repeat("x", 2<<20)}})
		p.expect(`[3,{"message":$_},"wamp.error.payload_size_exceeded"]`)
		p.over()
		early := dial()
		early.say([]any{int64(wamp.KindHello), "realm1", map[string]any{"roles": map[string]any{}, "x": strings.Repeat("x", 64<<10)}})
		early.expect(`[3,{"message":$_},"wamp.error.payload_size_exceeded"]`)
		early.over()
	})
}
