package broker

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-iot/postern/bridge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// record is a log that tests can read.
type record struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

func start(t testing.TB) (*Broker, *record) {
	t.Helper()
	rec := &record{}
	cfg := DefaultConfig()
	cfg.Listen, cfg.MaxPacket = []string{"127.0.0.1:0"}, 4096
	b, err := New(cfg, Host{}, slog.New(slog.NewTextHandler(rec, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-b.Ready()
	return b, rec
}

func TestStopsWithSilentClients(t *testing.T) {
	b, _ := start(t)
	for range 10 {
		c, err := net.Dial("tcp", b.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := b.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "run before") {
		t.Errorf("a second Run: %v", err)
	}
}

// TestLogHasNoSecret: a second CONNECT, which the library logs as a whole.
func TestLogHasNoSecret(t *testing.T) {
	b, rec := start(t)
	c, err := net.Dial("tcp", b.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	connect := "\x10\x17\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01z\x00\x01u\x00\x05s3cr7"
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(c, connect+connect)
	_, _ = io.Copy(io.Discard, c)
	if log := rec.String(); strings.Contains(log, "s3cr7") || !strings.Contains(log, "second connect") {
		t.Errorf("the log:\n%s", log)
	}
}

func TestTakesTheConnectionOver(t *testing.T) {
	b, _ := start(t)
	first, err := b.Connect(t.Context(), func(bridge.Received) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Connect(t.Context(), func(bridge.Received) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	first.Close(t.Context())
	if b.hook.conn.Load() != second {
		t.Error("closing the first has closed the second")
	}
	second.Close(t.Context())
	if b.hook.conn.Load() != nil {
		t.Error("the second is still attached")
	}
}

// TestPanicOfTheLibrary: a SUBSCRIBE of MQTT 5 that ends before its options,
// over which the library's decoder panics, ends its client like any other.
func TestPanicOfTheLibrary(t *testing.T) {
	b, rec := start(t)
	got := make(chan bridge.Received, 1)
	in, err := b.Connect(t.Context(), func(r bridge.Received) error {
		got <- r
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close(t.Context())
	if err := in.Subscribe(t.Context(), []bridge.Filter{{Topic: "gone/#"}}); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", b.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	// CONNECT with a session that outlives the connection and a last will.
	connect := "\x00\x04MQTT\x05\x04\x00\x3c\x05\x11\x00\x00\xff\xff\x00\x01z\x00\x00\x06gone/z\x00\x01!"
	_, _ = io.WriteString(c, "\x10"+string(rune(len(connect)))+connect+"\x82\x06\x00\x01\x00\x00\x01#")
	_, _ = io.Copy(io.Discard, c)
	select {
	case r := <-got:
		if r.Topic != "gone/z" || string(r.Payload) != "!" {
			t.Errorf("received %+v", r)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("no last will:\n%s", rec)
	}
	for b.Stats().Sessions != 0 {
		if t.Context().Err() != nil {
			t.Fatal("the session is kept")
		}
		runtime.Gosched()
	}
	if !strings.Contains(rec.String(), "ended by a panic") {
		t.Errorf("it did not panic; is the library mended?\n%s", rec)
	}
}

// FuzzClient plays whatever bytes after CONNECT: nothing may end the process,
// nor panic where that is caught, but for what TestPanicOfTheLibrary is about.
func FuzzClient(f *testing.F) {
	for _, s := range []string{
		"\x30\x05\x00\x01ahi", "\x32\x07\x00\x01a\x00\x01hi", "\x34\x05\x00\x01a\x00\x02", "\x62\x02\x00\x02", "\x82\x06\x00\x01\x00\x01#\x01",
		"\x82\x06\x00\x01\x00\x01+\x01\x31\x04\x00\x01ax", "\xa2\x05\x00\x01\x00\x01#", "\xc0\x00", "\xe0\x00", "\xf0\x02\x00\x00",
		"\x40\x02\x00\x01", "\x50\x02\x00\x01", "\x70\x02\x00\x01",
	} {
		f.Add([]byte(s), byte(4))
		f.Add([]byte(s), byte(5))
	}
	b, rec := start(f)
	f.Fuzz(func(t *testing.T, data []byte, level byte) {
		connect := "\x10\x0d\x00\x04MQTT" + string(level) + "\x02\x00\x3c\x00\x01z"
		if level == 5 {
			connect = "\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01z"
		}
		c, err := net.Dial("tcp", b.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(c, connect)
		_, _ = c.Write(data)
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		for line := range strings.Lines(rec.String()) {
			if strings.Contains(line, "panic") && !strings.Contains(line, ".(*Packet).SubscribeDecode(") {
				t.Fatalf("%s", rec)
			}
		}
	})
}
