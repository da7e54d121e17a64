//go:build vm

package inside

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/test/vm/acm"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

const serialConfig = `
listen: {rawsocket: 127.0.0.1:8081}
realms:
  - name: realm1
    anonymous: full
devices:
  restart: {min: 20ms, max: 100ms}
  list:
    - {name: meter, type: serial-lines, port: %s, baud: 115200, format: csv, fields: [{name: n, type: int}]}
`

// An adapter that is pulled out and put in again, found by its link: every line
// sent while the device is ready arrives, once and in order.
func TestVMReplug(t *testing.T) {
	const rounds, lines = 20, 25
	a := acm.New(t, "meter")
	g, _ := startWith(t, fmt.Sprintf(serialConfig, a.ByID))
	s := g.join("rs://127.0.0.1:8081", codec.CBOR)
	values := make(chan int64, rounds*lines)
	_, err := s.Subscribe(t.Context(), "device.meter.n", func(e *client.Event) {
		if wamp.AsString(e.KwArgs, "quality") == "good" {
			n, _ := e.Args[0].(int64)
			values <- n
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	away := func() {
		t.Helper()
		var reason string
		eventually(t, "the device says that its adapter is away", func() bool {
			var now string
			now, reason = state(t, s, "meter")
			return now == "back-off" && strings.Contains(reason, "plugged in?")
		})
		if !strings.Contains(reason, a.ByID) {
			t.Errorf("the reason is %q", reason)
		}
	}
	next := int64(1)
	var slowest time.Duration
	for range rounds {
		away()
		begin := time.Now()
		port := a.Plug()
		far := a.Far()
		awaitReady(t, s, "meter")
		slowest = max(slowest, time.Since(begin))
		var text bytes.Buffer
		for i := range lines {
			fmt.Fprintf(&text, "%d\n", next+int64(i))
		}
		if _, err := far.Write(text.Bytes()); err != nil {
			t.Fatal(err)
		}
		for range lines {
			select {
			case n := <-values:
				if n != next {
					t.Fatalf("line %d arrived instead of %d", n, next)
				}
				next++
			case <-time.After(patience):
				t.Fatalf("line %d does not arrive", next)
			}
		}
		a.Unplug()
		far.Close()
		a.Gone(port)
	}
	away()
	if len(values) > 0 {
		t.Errorf("%d lines too many", len(values))
	}
	t.Logf("%d times plugged in, %d lines, none lost; ready %v after plugging in at the latest", rounds, next-1, slowest.Round(time.Millisecond))
}
