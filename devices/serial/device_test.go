package serial

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outlet records what a device says.
type outlet struct {
	mu   sync.Mutex
	said []string
	news chan struct{}
}

func newOutlet() *outlet { return &outlet{news: make(chan struct{}, 1)} }

func (o *outlet) say(format string, a ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = append(o.said, fmt.Sprintf(format, a...))
	select {
	case o.news <- struct{}{}:
	default:
	}
}

func (o *outlet) Ready()                                           { o.say("ready") }
func (o *outlet) Degraded(err error)                               { o.say("degraded(%v)", err) }
func (o *outlet) Fault(reading string, reason error)               { o.say("fault:%s", reading) }
func (o *outlet) Emit(reading string, value any, s devices.Sample) { o.say("%s=%v", reading, value) }

func (o *outlet) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := strings.Join(o.said, " ")
	o.said = nil
	return s
}

// until waits, in real time, until something is said that contains word, and
// returns all that was said.
func (o *outlet) until(t *testing.T, word string) string {
	t.Helper()
	var all []string
	timeout := time.After(10 * time.Second)
	for {
		all = append(all, o.take())
		if s := strings.Join(strings.Fields(strings.Join(all, " ")), " "); strings.Contains(s, word) {
			return s
		}
		select {
		case <-o.news:
		case <-timeout:
			t.Fatalf("no %q in %q", word, all)
		}
	}
}

// running is a device on one end of a pipe; other is the far end.
type running struct {
	*outlet
	t      *testing.T
	dev    *device
	other  net.Conn
	cancel context.CancelFunc
	result chan error
}

func start(t *testing.T, p Params) *running {
	t.Helper()
	r := &running{outlet: newOutlet(), t: t, result: make(chan error, 1)}
	dev, err := newDevice(p, func() (port, error) {
		near, far := net.Pipe()
		r.other = far
		return near, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.dev = dev
	r.run()
	return r
}

func (r *running) run() {
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(r.t.Context())
	go func() { r.result <- r.dev.Run(ctx, r) }()
	synctest.Wait()
}

func (r *running) stop() {
	r.t.Helper()
	r.cancel()
	if err := <-r.result; err != nil {
		r.t.Errorf("Run: %v", err)
	}
}

func (r *running) send(s string) {
	r.other.SetWriteDeadline(time.Now().Add(time.Minute))
	if _, err := r.other.Write([]byte(s)); err != nil {
		r.t.Errorf("send: %v", err)
	}
	synctest.Wait()
}

// expect sends and compares what the device says then.
func (r *running) expect(sent, want string) {
	r.t.Helper()
	if sent != "" {
		r.send(sent)
	}
	synctest.Wait()
	if have := r.take(); have != want {
		r.t.Errorf("after %.40q:\nhave %s\nwant %s", sent, have, want)
	}
}

func call(t *testing.T, dev devices.Device, name string, args ...any) (any, error) {
	t.Helper()
	for _, p := range dev.Procedures() {
		if p.Name == name {
			return p.Call(t.Context(), append(args, make([]any, len(p.Args)-len(args))...), nil)
		}
	}
	t.Fatalf("no procedure %q", name)
	return nil, nil
}

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, with(formatCSV, Field{Name: "a"}, Field{Name: "b", Type: "int"}))
		r.expect("", "ready")
		r.expect("1.5,", "")
		r.expect("2\r\n\n\r\n3,", "a=1.5 b=2")
		r.expect("4\n5,\n", "a=3 b=4 a=5")
		r.expect("nan,7\n", "fault:a b=7")
		r.stop()
		if r.dev.Halt() != nil {
			t.Error("Halt")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := start(t, textParams())
		r.expect("hello\n", "ready line=hello")
		r.stop()
	})
}

// The first line may be the end of one: it is used when it can be, and is not
// held against the device when it cannot.
func TestFirstLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, with(formatJSON, Field{Name: "a"}))
		r.expect(`":1}`+"\n"+`{"a":2}`+"\n", "ready a=2")
		r.expect("x\n", `degraded(a line cannot be used: it is not JSON: invalid character 'x' looking for beginning of value) bad_lines=1`)
		r.stop()
	})
}

func TestBadLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := with(formatCSV, Field{Name: "a"})
		p.MaxLine = 8
		r := start(t, p)
		r.expect("1\n", "ready a=1")
		r.expect("x\n", `degraded(a line cannot be used: field "a": "x" is not a number) bad_lines=1`)
		r.expect("y\n2\nz\n\xff\n", "a=2") // counted, but said once a second
		time.Sleep(time.Second)
		r.expect("", "bad_lines=4")
		for range goodLines - 1 {
			r.send("3\n")
		}
		r.take()
		r.expect("4\n", "ready a=4")

		// Too long is bad too, and the next line is read.
		time.Sleep(time.Second)
		r.expect("123456789\n5\n", "a=5 degraded(a line cannot be used: it is longer than 8 bytes) bad_lines=5")
		time.Sleep(goodTime)
		r.expect("6\n", "ready a=6")
		r.stop()

		// The count goes on, and the device begins well again.
		r.run()
		r.expect("?\n", "ready")
		r.send("?\n")
		if have := r.take(); !strings.HasSuffix(have, "bad_lines=6") {
			t.Errorf("%s", have)
		}
		r.stop()
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := with(formatCSV, Field{Name: "a"}, Field{Name: "b"})
		p.Timeout = 5 * time.Second
		r := start(t, p)
		time.Sleep(4 * time.Second)
		r.expect("1,2\n", "ready a=1 b=2")
		time.Sleep(4900 * time.Millisecond)
		r.expect("", "")
		time.Sleep(200 * time.Millisecond)
		r.expect("", "degraded(no good line came for 5s) fault:a fault:b")
		time.Sleep(time.Hour)
		r.expect("", "")
		r.expect("3,4\n", "ready a=3 b=4")

		// Noise is not life.
		for range 7 {
			time.Sleep(time.Second)
			r.send("noise\n")
		}
		if have := r.take(); !strings.Contains(have, "degraded(no good line came for 5s) fault:a fault:b") {
			t.Errorf("%s", have)
		}
		r.expect("5,6\n", "ready a=5 b=6")
		r.stop()
	})
}

func TestMegabyteOfNoise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, with(formatJSON, Field{Name: "a"}))
		r.expect(`{"a":1}`+"\n", "ready a=1")
		noise := make([]byte, 1<<20)
		random := rand.NewChaCha8([32]byte{1})
		random.Read(noise)
		r.send(string(noise) + "\n")
		if n := len(r.take()); n > 1000 {
			t.Errorf("noise made %d bytes of events", n)
		}
		r.expect(`{"a":2}`+"\n", "a=2")
		if c := cap(r.dev.framing.(*lineFraming).buf); c > 64<<10 {
			t.Errorf("the buffer has grown to %d bytes", c)
		}
		r.stop()
	})
}

func TestWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := textParams()
		p.Delimiter, p.WriteRate, p.MaxLine = "crlf", 3, 16
		r := start(t, p)
		got := make(chan string, 1)
		read := func() {
			buf := make([]byte, 100)
			n, _ := r.other.Read(buf)
			got <- string(buf[:n])
		}
		for _, c := range []struct {
			data, want string
			raw        any
		}{{"ON", "ON\r\n", nil}, {"ON", "ON", true}, {"\x00\xff", "\x00\xff\r\n", false}} {
			go read()
			n, err := call(t, r.dev, "write", []byte(c.data), c.raw)
			if have := <-got; err != nil || n != int64(len(c.want)) || have != c.want {
				t.Errorf("write(%q, %v): %v, %v; it got %q", c.data, c.raw, n, err, have)
			}
		}
		refused := func(uri string, args ...any) {
			t.Helper()
			e := new(wamp.Error)
			if v, err := call(t, r.dev, "write", args...); !errors.As(err, &e) || e.URI != uri {
				t.Errorf("write: %v, %v, want %s", v, err, uri)
			}
		}
		refused(wamp.ErrUnavailable, []byte("the fourth in a second"[:16]))
		time.Sleep(time.Second)
		refused(wamp.ErrInvalidArgument, []byte("more than sixteen bytes"))
		begin := time.Now()
		refused(wamp.ErrTimeout, []byte("nobody reads"))
		if took := time.Since(begin); took < writeGrace || took > 2*writeGrace {
			t.Errorf("a write that nobody takes lasted %v", took)
		}
		r.stop()
		refused(wamp.ErrUnavailable, []byte("closed"))
	})
}

func TestTransact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, with(formatCSV, Field{Name: "a"}))
		r.take()
		answers := make(chan string, 1)
		go func() { // the device at the other end
			buf := make([]byte, 100)
			for {
				n, err := r.other.Read(buf)
				if err != nil {
					return
				}
				if a := <-answers; a != "" {
					r.other.Write([]byte(strings.ReplaceAll(a, "?", string(buf[:n]))))
				}
			}
		}()
		for _, c := range []struct {
			answer string
			want   any
			events string
		}{
			{"7\n", "7", "a=7"},
			{"OK ?", "OK GET", ""}, // not CSV, and not bad either
			{"\xff\n", []byte("\xff"), ""},
			{"7\r\n8\n", "7", "a=7 a=8"},
		} {
			answers <- c.answer
			have, err := call(t, r.dev, "transact", []byte("GET"))
			synctest.Wait()
			if said := r.take(); err != nil || fmt.Sprintf("%T%q", have, have) != fmt.Sprintf("%T%q", c.want, c.want) || said != c.events {
				t.Errorf("answer %q: %q, %v; said %q", c.answer, have, err, said)
			}
		}
		e := new(wamp.Error)
		answers <- ""
		begin := time.Now()
		if _, err := call(t, r.dev, "transact", []byte("GET"), nil, int64(300)); !errors.As(err, &e) || e.URI != wamp.ErrTimeout || time.Since(begin) != 300*time.Millisecond {
			t.Errorf("no answer: %v after %v", err, time.Since(begin))
		}
		for _, ms := range []int64{0, 60_001} {
			if _, err := call(t, r.dev, "transact", []byte("GET"), nil, ms); !errors.As(err, &e) || e.URI != wamp.ErrInvalidArgument {
				t.Errorf("timeout_ms %d: %v", ms, err)
			}
		}
		// Whoever waits when the port goes away is told.
		answers <- ""
		result := make(chan error)
		go func() { _, err := call(t, r.dev, "transact", []byte("GET"), nil, int64(60_000)); result <- err }()
		synctest.Wait()
		r.stop()
		if err := <-result; !errors.As(err, &e) || e.URI != wamp.ErrUnavailable {
			t.Errorf("port closed: %v", err)
		}
		r.other.Close()
	})
}

func TestCallersWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, textParams())
		r.dev.turn <- struct{}{} // somebody writes
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, p := range r.dev.Procedures() {
			if _, err := p.Call(ctx, wamp.List{[]byte("x"), nil, nil}, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", p.Name, err)
			}
		}
		r.stop()
	})
}

func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, textParams())
		r.other.Close()
		if err := <-r.result; err == nil || !strings.Contains(err.Error(), "unplugged") {
			t.Errorf("%v", err)
		}
		r.cancel()
		want := errors.New("no such file")
		r.dev.open = func() (port, error) { return nil, want }
		r.run()
		if err := <-r.result; !errors.Is(err, want) {
			t.Errorf("%v", err)
		}
		r.cancel()
	})
}

func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// Whatever a configuration describes, a simulated device sends it.
func TestSimulatedLines(t *testing.T) {
	number, ok := Field{Name: "n", Type: "int"}, Field{Name: "ok", Type: "bool"}
	place := func(f Field, change func(*Field)) Field { change(&f); return f }
	for name, c := range map[string]struct {
		params Params
		change func(*Params)
		want   string
	}{
		"text":       {textParams(), func(*Params) {}, "ready line=line 0"},
		"csv":        {with(formatCSV, Field{Name: "a", Scale: 0.5}, place(number, func(f *Field) { f.Column = 4 })), func(*Params) {}, "ready a=5 n=20"},
		"whitespace": {with(formatCSV, number, ok), func(p *Params) { p.Separator = whitespace }, "ready n=10 ok=false"},
		"json":       {with(formatJSON, place(number, func(f *Field) { f.Key = "a.1.n" }), place(ok, func(f *Field) { f.Key = "a.0" })), func(*Params) {}, "ready n=10 ok=false"},
		"regexp": {
			with(formatRegexp, number, Field{Name: "t"}), func(p *Params) {
				p.Pattern, p.Delimiter = `^[A-F]+ N=(?P<n>\d{2,})(?: |\t)T=(?P<t>-?[0-9.]+)x{3}$`, "crlf"
			},
			"ready n=10 t=20",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := c.params
				p.Port = "/dev/ttyUSB0"
				c.change(&p)
				p.Simulate()
				if claims := p.Claims(); claims != nil {
					t.Errorf("it claims %q", claims)
				}
				dev, err := Lines().Open(devices.Env{Name: "x"}, &p)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				o, result := newOutlet(), make(chan error, 1)
				go func() { result <- dev.Run(ctx, o) }()
				synctest.Wait()
				if have := o.take(); have != c.want {
					t.Errorf("%s", have)
				}
				if v, err := call(t, dev, "transact", []byte("hello")); err != nil || v == "" {
					t.Errorf("transact: %v, %v", v, err)
				}
				time.Sleep(10 * time.Second)
				if have := o.take(); strings.Contains(have, "degraded") || strings.Count(have, "=") < 10 {
					t.Errorf("%s", have)
				}
				cancel()
				if err := <-result; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
