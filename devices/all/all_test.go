package all

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/sim"
)

var rewrite = flag.Bool("rewrite", false, "write docs/drivers.md anew")

const page = "../../docs/drivers.md"

func TestReferencePage(t *testing.T) {
	want := devices.Reference(Table())
	if *rewrite {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s is stale: run go test ./devices/all -rewrite", page)
	}
}

func TestEveryTypeIsDescribed(t *testing.T) {
	table := Table()
	text := string(devices.Reference(table))
	for _, d := range table.Drivers() {
		if table.Driver(d.Type).Summary != d.Summary {
			t.Errorf("Driver(%q) is another one", d.Type)
		}
		if !strings.Contains(text, "\n## "+d.Type+"\n") {
			t.Errorf("the reference page has no section for %q", d.Type)
		}
		if !strings.Contains(d.Example, "type: "+d.Type+"\n") {
			t.Errorf("the example of %q is for something else:\n%s", d.Type, d.Example)
		}
	}
}

// With --sim every configuration runs on a laptop: every type of device must
// have a simulated backend.
func TestEveryTypeCanBeSimulated(t *testing.T) {
	for _, d := range Table().Drivers() {
		t.Run(d.Type, func(t *testing.T) {
			p := d.NewParams()
			s, ok := p.(devices.Simulator)
			if !ok {
				t.Fatalf("%T does not implement devices.Simulator", p)
			}
			s.Simulate()
		})
	}
}

// The demonstration runs on this table.
func TestDemo(t *testing.T) {
	cfg := devices.DefaultConfig()
	cfg.List = sim.Demo()
	h, err := devices.NewHost(cfg, Table(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if have := len(h.Status()); have != len(cfg.List) {
		t.Errorf("have %d devices, want %d", have, len(cfg.List))
	}
}
