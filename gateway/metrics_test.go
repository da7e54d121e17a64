package gateway

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp/client"
)

// sampleLine is the grammar of a sample in the text format.
var sampleLine = regexp.MustCompile(`^([a-z_]+)(\{[a-z_]+="(?:[^"\\\n]|\\.)*"(?:,[a-z_]+="(?:[^"\\\n]|\\.)*")*\})? (\S+)$`)

func TestMetrics(t *testing.T) {
	u := start(t, demo(t))
	s := dial(t, "ws"+strings.TrimPrefix(u.url("/ws"), "http"))
	for range 3 {
		if _, err := s.Call(t.Context(), "device.relay.set", client.Args{true}, nil); err != nil {
			t.Fatal(err)
		}
	}
	resp, body := get(t, u.url("/metrics"), nil)
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	values, typed := map[string]string{}, map[string]bool{}
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ = strings.Cut(name, " ")
			if typed[name] {
				t.Errorf("%s is typed twice: its samples are not together", name)
			}
			typed[name] = true
			continue
		}
		if strings.HasPrefix(line, "# HELP ") {
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("%q is no sample", line)
			continue
		}
		if !typed[m[1]] {
			t.Errorf("%s comes before its type", m[1])
		}
		values[m[1]+m[2]] = m[3]
	}
	for name, want := range map[string]string{
		`postern_realm_calls_total{realm="realm1"}`:                           "3",
		`postern_device_ready{device="relay",type="sim-relay",state="ready"}`: "1",
		`postern_bridge_online{broker="embedded"}`:                            "1",
		`postern_bridge_disk_failing{broker="embedded"}`:                      "0",
		`postern_mqtt_clients`:                                                "0",
		fmt.Sprintf(`postern_realm_pending_calls{realm="%s"}`, "realm1"):      "0",
	} {
		if values[name] != want {
			t.Errorf("%s is %q, want %s", name, values[name], want)
		}
	}
	if n := values[`postern_router_sessions`]; n == "" || n == "0" {
		t.Errorf("postern_router_sessions is %q", n)
	}
	u.stop()
}

func TestMetricsAreForTheMachineItself(t *testing.T) {
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.RemoteAddr = "192.0.2.7:4711"
	w := httptest.NewRecorder()
	(&Gateway{}).metrics(w, r)
	if w.Code != 403 {
		t.Errorf("from elsewhere: %d, want 403", w.Code)
	}
}

func TestLabelsAreEscaped(t *testing.T) {
	var m exposition
	m.gauge("a", "", 1, "name", "x\"y\\z\n<img onerror=1>")
	m.gauge("b", "", 2)
	m.gauge("a", "", 3, "name", "other")
	want := "# TYPE a gauge\n" + `a{name="x\"y\\z\n<img onerror=1>"} 1` + "\n" + `a{name="other"} 3` + "\n# TYPE b gauge\nb 2\n"
	if got := m.bytes(); !bytes.Equal(got, []byte(want)) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
