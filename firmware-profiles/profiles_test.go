package profiles

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write docs/boards.md anew")

const page = "../docs/boards.md"

func TestPage(t *testing.T) {
	want, err := Page()
	if err != nil {
		t.Fatal(err)
	}
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
		t.Errorf("%s is stale: run go test ./firmware-profiles -rewrite", page)
	}
}

func TestBoards(t *testing.T) {
	for _, id := range []string{"zero", "zero-w", "zero-2-w", "1", "2", "3", "4", "5", "cm4", "cm5", "virt", "raspi3b"} {
		b, err := Load(id)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if id == "virt" {
			continue
		}
		if len(b.Header) != 40 || b.Header[10].Name != "GPIO17" || b.Header[38].Name != "GND" {
			t.Errorf("%s: not the header of a Raspberry Pi: %v", id, b.Header)
		}
		if b.Overlay("w1-gpio") == nil || b.Overlay("nothing") != nil {
			t.Errorf("%s: overlays are not found by name", id)
		}
		if arm64 := b.Architecture == "arm64"; arm64 != (b.Appliance.Unavailable == "") {
			t.Errorf("%s: %s, and its image is unavailable because %q", id, b.Architecture, b.Appliance.Unavailable)
		}
	}
	if _, err := Load("6"); err == nil || !strings.Contains(err.Error(), "zero-2-w") {
		t.Errorf("an unknown board: %v", err)
	}
}

func TestRefused(t *testing.T) {
	const sound = "name: A\nmodels: [A]\narchitecture: arm64\nsoc: A\nconsoles: []\nappliance: {kernel: rpi}\n"
	if _, err := parse("a", []byte(sound)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{strings.Replace(sound, "arm64", "riscv", 1), "armv6"},
		{strings.Replace(sound, "kernel: rpi", "", 1), "exactly one of"},
		{sound + "header: [{pin: 2, name: GPIO2, pull: up}]\n", "not the next pin"},
		{sound + "header: [{pin: 1, name: GPIO2}]\n", "a line has a pull"},
		{sound + "header: [{pin: 1, name: GPIO2, pull: up}, {pin: 2, name: GPIO2, pull: up}]\n", "twice"},
		{sound + "buses: [{kind: i2c, device: /dev/i2c-1, pins: [GPIO2], enable: x}]\n", "not on the header"},
		{sound + "colour: green\n", "colour"},
	} {
		if _, err := parse("a", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("have %v, want %q in\n%s", err, c.want, c.text)
		}
	}
}
