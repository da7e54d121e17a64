package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/devices"
)

// metrics answers /metrics in the text format of Prometheus (version 0.0.4).
// Like the details of /healthz it is for those on the machine itself: it names
// realms, devices and brokers. Nothing is sampled or kept; the parts' own
// counters are read when somebody asks.
func (g *Gateway) metrics(w http.ResponseWriter, r *http.Request) {
	if !fromHere(r) {
		http.Error(w, "metrics are read on the machine itself only", http.StatusForbidden)
		return
	}
	var m exposition
	m.gauge("postern_info", "What runs; the value is always 1.", 1, "version", g.health.version, "go", runtime.Version())
	m.gauge("postern_up_seconds", "Time since the start.", time.Since(g.health.started).Seconds())
	m.gauge("postern_goroutines", "Goroutines.", float64(runtime.NumGoroutine()))
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	m.gauge("postern_heap_bytes", "Memory in use by the Go heap.", float64(mem.HeapInuse))
	m.gauge("postern_memory_bytes", "Memory that the Go runtime has from the system.", float64(mem.Sys-mem.HeapReleased))

	m.fields("postern", reflect.ValueOf(g.reloads.counts()))
	stats := g.router.Stats()
	m.fields("postern_router", reflect.ValueOf(stats))
	for _, name := range sortedNames(stats.Realms) {
		m.fields("postern_realm", reflect.ValueOf(stats.Realms[name]), "realm", name)
	}
	for _, s := range g.host.Status() {
		up := 0.0
		if s.State == devices.StateReady {
			up = 1
		}
		m.gauge("postern_device_alarms", "Raised alarms of the device's readings.", float64(len(s.Alarms)), "device", s.Device, "type", s.Type)
		m.gauge("postern_device_ready", "Whether the device works.", up, "device", s.Device, "type", s.Type, "state", string(s.State))
		m.fields("postern_device", reflect.ValueOf(s), "device", s.Device)
	}
	for _, s := range g.bridge.Status() {
		up := 0.0
		if s.State == bridge.StateOnline {
			up = 1
		}
		m.gauge("postern_bridge_online", "Whether the broker is connected.", up, "broker", s.Broker)
		m.fields("postern_bridge", reflect.ValueOf(s), "broker", s.Broker)
		failing := 0.0
		if s.DiskError != "" {
			failing = 1
		}
		m.gauge("postern_bridge_disk_failing", "Whether messages wait in memory although they should be on disk.", failing, "broker", s.Broker)
		for _, each := range s.Maps {
			m.fields("postern_bridge_map", reflect.ValueOf(each), "broker", s.Broker, "map", each.Map)
		}
		for _, reason := range sortedNames(s.Dropped) {
			m.counter("postern_bridge_dropped_total", "Messages dropped, by reason.", float64(s.Dropped[reason]), "broker", s.Broker, "reason", reason)
		}
	}
	if g.broker != nil {
		m.fields("postern_mqtt", reflect.ValueOf(g.broker.Stats()))
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(m.bytes())
}

// exposition collects samples. The format wants all samples of a metric
// together, so they are kept by name, in the order of the first of each.
type exposition struct {
	names  []string
	blocks map[string]*bytes.Buffer
}

// fields takes every number of a struct as a metric named after its field: an
// int or a float is how many there are now, a wider int how many there have
// been, a duration is in seconds. What a
// new counter of a part is called follows from its name there.
func (m *exposition) fields(prefix string, v reflect.Value, labels ...string) {
	for i := range v.NumField() {
		f, value := v.Type().Field(i), v.Field(i)
		name := prefix + "_" + snake(f.Name)
		switch {
		case f.Anonymous && value.Kind() == reflect.Struct:
			m.fields(prefix, value, labels...)
		case value.Type() == reflect.TypeFor[time.Duration]():
			m.gauge(name+"_seconds", "", time.Duration(value.Int()).Seconds(), labels...)
		case value.Kind() == reflect.Float64:
			m.gauge(name, "", value.Float(), labels...)
		case value.Kind() == reflect.Uint64:
			m.counter(name+"_total", "", float64(value.Uint()), labels...)
		case value.Kind() == reflect.Int64:
			m.counter(name+"_total", "", float64(value.Int()), labels...)
		case value.Kind() == reflect.Int:
			m.gauge(name, "", float64(value.Int()), labels...)
		}
	}
}

func (m *exposition) gauge(name, help string, value float64, labels ...string) {
	m.sample(name, "gauge", help, value, labels)
}

func (m *exposition) counter(name, help string, value float64, labels ...string) {
	m.sample(name, "counter", help, value, labels)
}

func (m *exposition) sample(name, kind, help string, value float64, labels []string) {
	if m.blocks == nil {
		m.blocks = map[string]*bytes.Buffer{}
	}
	b := m.blocks[name]
	if b == nil {
		b = &bytes.Buffer{}
		m.blocks[name] = b
		m.names = append(m.names, name)
		if help != "" {
			fmt.Fprintf(b, "# HELP %s %s\n", name, help)
		}
		fmt.Fprintf(b, "# TYPE %s %s\n", name, kind)
	}
	b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		sep := ','
		if i == 0 {
			sep = '{'
		}
		fmt.Fprintf(b, "%c%s=\"%s\"", sep, labels[i], labelEscaper.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	fmt.Fprintf(b, " %g\n", value)
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (m *exposition) bytes() []byte {
	var all []byte
	for _, name := range m.names {
		all = append(all, m.blocks[name].Bytes()...)
	}
	return all
}

// snake writes a field's name as metrics have it: PendingCalls is
// pending_calls.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
