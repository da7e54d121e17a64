//go:build system

package test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHostileBytes sends what must not be sent; whoever sends it is cut off,
// and everybody else is served as before.
func TestHostileBytes(t *testing.T) {
	mqtt, station := startFleet(t), plugSensor(t)
	g := run(t, fmt.Sprintf(site, station.path, mqtt.port))
	witness := start(t, "autobahn_twisted.py")
	witness.connect(g.url("rs"), "msgpack")

	const msgpack, json, cbor = 2, 1, 3
	hello := []byte(`[1,"realm1",{"roles":{"caller":{}}}]`)
	for _, attack := range []struct {
		name       string
		serializer byte
		joined     bool
		bytes      []byte
	}{
		{"msgpack array of 2^31", msgpack, false, frame([]byte{0xdd, 0x7f, 0xff, 0xff, 0xff, 0xc0})},
		{"msgpack map of 2^31", msgpack, false, frame([]byte{0xdf, 0x7f, 0xff, 0xff, 0xff, 0xc0})},
		{"msgpack bytes of 4 GiB", msgpack, false, frame([]byte{0xc6, 0xff, 0xff, 0xff, 0xff, 0x00})},
		{"msgpack nested 15,000 deep", msgpack, false, frame(bytes.Repeat([]byte{0x91}, 15_000))},
		{"cbor array of 2^63", cbor, false, frame([]byte{0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})},
		{"cbor nested 15,000 deep", cbor, false, frame(bytes.Repeat([]byte{0x81}, 15_000))},
		{"json nested 15,000 deep", json, false, frame(bytes.Repeat([]byte("["), 15_000))},
		{"not json", json, false, frame([]byte("hello"))},
		{"empty message", json, false, frame(nil)},
		{"empty list", json, false, frame([]byte("[]"))},
		{"CALL before HELLO", json, false, frame([]byte(`[48,1,{},"com.example.x"]`))},
		{"a message of 16 MiB announced", json, false, []byte{0, 0xff, 0xff, 0xff}},
		{"a reserved frame type", json, false, []byte{7, 0, 0, 0}},
		{"HELLO twice", json, true, frame(hello)},
		{"YIELD for nothing", json, true, frame([]byte(`[70,1,{}]`))},
		{"a negative request ID", json, true, frame([]byte(`[48,-1,{},"com.example.x"]`))},
		{"1e300 as request ID", json, true, frame([]byte(`[48,1e300,{},"com.example.x"]`))},
		{"arguments that are no list", json, true, frame([]byte(`[48,1,{},"com.example.x",7]`))},
		{"an unknown type", json, true, frame([]byte(`[99,1]`))},
		{"a message of 2 MiB", json, true, frame(append(append([]byte(`[48,1,{},"com.example.x",["`), bytes.Repeat([]byte("x"), 2<<20)...), `"]]`...))},
	} {
		t.Run(attack.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.raw))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			conn.Write([]byte{0x7f, 0xf0 | attack.serializer, 0, 0})
			if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			if attack.joined {
				conn.Write(frame(hello))
				if m := readFrame(t, conn); !bytes.HasPrefix(m, []byte("[2,")) {
					t.Fatalf("HELLO was answered with %s", m)
				}
			}
			conn.Write(attack.bytes) // an error means that it was cut off already
			rest, err := io.ReadAll(conn)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Fatalf("the connection was not ended; it said %q", rest)
			}
			if attack.bytes[0] == 0 && len(attack.bytes) > 4 && len(rest) > 4 && attack.serializer == json && !bytes.HasPrefix(rest[4:], []byte("[3,")) {
				t.Errorf("the end was announced by %q, want ABORT", rest)
			}
		})
	}
	witness.call("device.relay.set", true)
	if state := g.health()["status"]; state != "ok" {
		t.Errorf("after all that, health says %v", state)
	}
	g.terminate()
}

// frame is a RawSocket message.
func frame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func readFrame(t *testing.T, r io.Reader) []byte {
	t.Helper()
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTrouble: a serial port and a broker that are away harm nothing else, are
// named where one looks, and are taken up when they come.
func TestTrouble(t *testing.T) {
	port := filepath.Join(t.TempDir(), "ttyWEATHER")
	mqtt := &fleet{t: t, port: freePort(t)} // not started
	g := run(t, fmt.Sprintf(site, port, mqtt.port))
	c := start(t, "autobahn.js")
	c.connect(g.url("ws"), "json")
	c.call("device.relay.set", true)

	var report string
	until(t, "health names what is away", func() bool {
		report = fmt.Sprint(g.health()["problems"])
		return strings.Contains(report, port) && strings.Contains(report, "plant")
	})

	// The broker comes, is killed, and comes again: what was published at QoS 1
	// while it was away arrives then.
	mqtt.start()
	c.subscribe("site.tasmota.sensor", "exact")
	c.must("publish", map[string]any{"uri": "site.state.early", "args": []any{1}, "kwargs": map[string]any{}})
	until(t, "the bridge reaches the broker", func() bool {
		return !strings.Contains(fmt.Sprint(g.health()["problems"]), "plant")
	})
	mqtt.process.cmd.Process.Kill()
	<-mqtt.process.done
	until(t, "the bridge misses the broker", func() bool {
		return strings.Contains(fmt.Sprint(g.health()["problems"]), "plant")
	})
	for i := range 100 {
		c.must("publish", map[string]any{"uri": "site.state.queued", "args": []any{i}, "kwargs": map[string]any{}})
	}
	mqtt.start()
	downstream := mqtt.subscribe("state/queued")
	c.must("publish", map[string]any{"uri": "site.state.queued", "args": []any{"last"}, "kwargs": map[string]any{}})
	receive(t, downstream, "the last state", func(m string) bool { return m == `state/queued "last"` })
	mqtt.publish("tele/tasmota/SENSOR", "21.5", "-q", "1")
	c.wait("telemetry after the broker's return", func(e event) bool { return e.Topic == "site.tasmota.sensor" })

	// The station is plugged in.
	station := &sensor{path: port}
	station.plug(t)
	c.subscribe("device.weather.temperature", "exact")
	deadline := time.Now().Add(patience)
	for heard := false; !heard; {
		station.says(t, "T=7.5 H=50")
		select {
		case e := <-c.events:
			heard = e.Topic == "device.weather.temperature" && len(e.Args) == 1 && e.Args[0] == 7.5
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("the station was not taken up")
		}
	}
	g.terminate()
}

// TestBrokenConfig: every error at once, each with its place, the line and a
// hint; and run refuses like check does.
func TestBrokenConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "postern.yaml")
	text := `listen:
  htp: 127.0.0.1:8080
devices:
  list:
    - {name: pump, type: gpio-output, pin: GPIO17}
    - {name: valve, type: gpio-output, pin: GPIO17}
    - {name: fan, type: gpio-outptu, pin: GPIO18}
    - {name: probe, type: sim-sine, interval: fast}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"check", "run"} {
		out, err := exec.Command(posternBinary, command, "-c", file).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatalf("%s accepted it: %v\n%s", command, err, out)
		}
		for _, want := range []string{
			file + ":2:3", "htp", "http", // unknown key, and the one that was meant
			file + ":6:", "pump", "valve", "GPIO17", // one pin, two devices
			file + ":7:", "gpio-outptu", "gpio-output",
			file + ":8:", "fast",
		} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s does not say %q:\n%s", command, want, out)
			}
		}
	}
}
