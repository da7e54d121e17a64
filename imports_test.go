// Package postern has no code of its own: this file holds the layout of the
// packages as a table and fails when an import breaks it.
package postern

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/postern-iot/postern/"

// allowed says which of our packages each of our packages may import; "x/*"
// means x and everything below it. docs/architecture.md says why.
var allowed = map[string][]string{
	"wamp":           {},
	"wamp/codec":     {"wamp"},
	"wamp/transport": {"wamp", "wamp/codec"},
	"wamp/auth":      {"wamp"},
	"wamp/client":    {"wamp", "wamp/codec", "wamp/transport"},

	"spool": {},

	"router/realm": {"wamp"},
	"router":       {"spool", "router/realm", "wamp/*"},

	"devices/pipeline": {},

	"devices":         {"devices/pipeline", "wamp/*"},
	"devices/bus":     {"devices"},
	"devices/gpio":    {"devices", "wamp"},
	"devices/i2c":     {"devices", "devices/bus", "devices/gpio", "wamp"},
	"devices/onewire": {"devices", "devices/bus", "wamp"},
	"devices/pwm":     {"devices", "wamp"},
	"devices/spi":     {"devices", "devices/bus", "wamp"},
	"devices/serial":  {"devices", "wamp"},
	"devices/sim":     {"devices", "wamp", "wamp/client"},
	"devices/system":  {"devices", "wamp"},
	"devices/scan":    {"devices/*"},
	"devices/all":     {"devices", "devices/*"},

	"bridge/expr":          {},
	"bridge/homeassistant": {"wamp"},
	"bridge/sparkplug":     {},
	"bridge":               {"bridge/expr", "bridge/homeassistant", "bridge/sparkplug", "spool", "wamp/*"},
	"bridge/paho":          {"bridge"},
	"bridge/broker":        {"bridge", "spool", "wamp", "wamp/transport"},

	"web":                     {},
	"gateway/config/strict":   {},
	"gateway/config/crossbar": {},
	"configs/bridges":         {},
	"gateway/config":          {"configs/bridges", "gateway/config/strict", "bridge/*", "devices/*", "router/*", "wamp/*"},
	"gateway/doctor":          {"devices", "devices/*", "gateway/config"},
	"gateway":                 {"bridge/*", "devices/*", "gateway/config", "router/*", "wamp/*", "web"},
	"gateway/keys":            {},
	"firmware-profiles":       {"gateway/config/strict"},
	"image/fat":               {},
	"image/ext4":              {},
	"image/boot":              {},
	"image/flash":             {},
	"image/raspios":           {},
	"image/layout":            {"gateway/config/strict"},
	"image":                   {"firmware-profiles", "image/ext4", "image/fat", "image/layout"},
	"update":                  {"image/layout"},
	"appliance":               {"gateway/keys", "image/ext4", "image/layout", "update"},
	"cmd/appliance":           {"appliance", "devices/*", "gateway/*", "image/layout"},
	"scripts/sbom":            {},
	"cmd/postern":             {"bridge/*", "devices/*", "firmware-profiles", "gateway/*", "image/*", "router/*", "update", "wamp/*"},
}

// only says which packages may import a library that the house keeps in one
// place.
var only = map[string][]string{
	"github.com/eclipse/paho.mqtt.golang": {"bridge/paho"},
	"github.com/mochi-mqtt/server/v2":     {"bridge/broker"},
	"github.com/gorilla/websocket":        {"wamp/transport"},
	"github.com/tarm/serial":              {"devices/serial"},
	"github.com/goccy/go-yaml":            {"gateway/config/strict"},
	"github.com/spf13/cobra":              {"cmd/postern"},
	"github.com/vmihailenco/msgpack/v5":   {"wamp/codec"},
	"github.com/fxamacker/cbor/v2":        {"wamp/codec"},
	"periph.io/x/conn/v3":                 {"devices/gpio", "devices/i2c", "devices/spi"},
	"periph.io/x/host/v3":                 {"devices/i2c", "devices/spi"},
}

// never lists what a package must not import from anywhere: the realm stays a
// pure state machine.
var never = map[string][]string{
	"router/realm": {"time", "math/rand", "math/rand/v2", "crypto/rand", "net", "sync", "sync/atomic", "os", "log", "log/slog", "context"},
	"wamp":         {"time", "net", "os", "sync", "log", "log/slog", "context"},
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg, ours := strings.CutPrefix(fields[0], module)
		if !ours || strings.HasPrefix(pkg, "test") {
			continue
		}
		rule, known := allowed[pkg]
		if !known {
			t.Errorf("package %s is not in the table: give it its place here and in docs/architecture.md", pkg)
			continue
		}
		seen++
		for _, imp := range fields[1:] {
			if slices.Contains(never[pkg], imp) {
				t.Errorf("%s must not import %s", pkg, imp)
			}
			if own, ok := strings.CutPrefix(imp, module); ok && !matches(rule, own) {
				t.Errorf("%s must not import %s", pkg, own)
			}
			for lib, users := range only {
				if (imp == lib || strings.HasPrefix(imp, lib+"/")) && !slices.Contains(users, pkg) {
					t.Errorf("%s must not import %s: only %v may", pkg, imp, users)
				}
			}
		}
	}
	if seen != len(allowed) {
		t.Errorf("the table names %d packages, %d exist", len(allowed), seen)
	}
}

func matches(rule []string, pkg string) bool {
	return slices.ContainsFunc(rule, func(r string) bool {
		base, below := strings.CutSuffix(r, "/*")
		return pkg == base || below && strings.HasPrefix(pkg, base+"/")
	})
}
