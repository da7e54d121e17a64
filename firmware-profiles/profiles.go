// Package profiles knows the boards that the gateway runs on: one YAML file
// for each, named as it is called on the command line. docs/boards.md is made
// from them.
//
// The package has no goroutines and no state; it reads nothing but what is
// embedded.
package profiles

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/postern-iot/postern/gateway/config/strict"
)

//go:embed *.yaml
var files embed.FS

// Board is what is known of a board.
type Board struct {
	// ID is what the command line calls it: "zero-2-w".
	ID           string    `yaml:"-"`
	Name         string    `yaml:"name" required:"true" doc:"What its maker calls it."`
	Models       []string  `yaml:"models" required:"true" doc:"How its device tree's model begins."`
	Architecture string    `yaml:"architecture" required:"true" enum:"armv6,armv7,arm64" doc:"The instructions of its CPU."`
	SoC          string    `yaml:"soc" required:"true" doc:"Its chip."`
	Chip         string    `yaml:"gpio_chip" doc:"The label of the header's GPIO chip. Its number differs between kernels."`
	Header       []Pin     `yaml:"header" doc:"The pins of its header."`
	Buses        []Bus     `yaml:"buses" doc:"Its buses, and what makes the kernel offer them."`
	Overlays     []Overlay `yaml:"overlays" doc:"Device tree overlays that are of use on it."`
	Consoles     []Console `yaml:"consoles" required:"true" doc:"Its serial consoles."`
	Limits       []string  `yaml:"limits" doc:"What is known not to work, or to break it."`
	Appliance    Appliance `yaml:"appliance" required:"true" doc:"What the appliance image of it is made of."`
}

// Pin is a pin of the header.
type Pin struct {
	Pin       int      `yaml:"pin" required:"true" min:"1" max:"40" doc:"Its number."`
	Name      string   `yaml:"name" required:"true" doc:"The kernel's name of its line, or the supply that it is."`
	Pull      string   `yaml:"pull" enum:"up,down" doc:"Where it is pulled from power-up until somebody sets it."`
	Functions []string `yaml:"functions" doc:"What it can be beside a GPIO."`
	Note      string   `yaml:"note" doc:"What else is to be known."`
}

// Bus is a bus.
type Bus struct {
	Kind   string   `yaml:"kind" required:"true" enum:"i2c,spi,one-wire,serial,pwm" doc:"What it is."`
	Device string   `yaml:"device" required:"true" doc:"Where the kernel shows it."`
	Pins   []string `yaml:"pins" required:"true" doc:"Its lines."`
	Enable string   `yaml:"enable" required:"true" doc:"The line of config.txt that makes the kernel offer it."`
	Note   string   `yaml:"note" doc:"What else is to be known."`
}

// Overlay is a device tree overlay.
type Overlay struct {
	Name       string      `yaml:"name" required:"true" doc:"Its name, as in dtoverlay=name."`
	Doc        string      `yaml:"doc" required:"true" doc:"What it does."`
	Parameters []Parameter `yaml:"parameters" doc:"Parameters of use."`
}

// Parameter is a parameter of an overlay.
type Parameter struct {
	Name    string `yaml:"name" required:"true" doc:"Its name."`
	Default string `yaml:"default" doc:"What it is unless given."`
	Doc     string `yaml:"doc" required:"true" doc:"What it means."`
}

// Console is a serial console.
type Console struct {
	Device string `yaml:"device" required:"true" doc:"Where the kernel shows it."`
	Baud   int    `yaml:"baud" required:"true" min:"300" max:"4000000" doc:"Its speed."`
	Doc    string `yaml:"doc" required:"true" doc:"Where it is on the board."`
}

// Appliance says what an image is made of.
type Appliance struct {
	Unavailable string   `yaml:"unavailable" doc:"Why there is no image for the board."`
	Kernel      string   `yaml:"kernel" enum:"rpi,arm64" doc:"Which kernel: the Raspberry Pi's or the generic one."`
	Trees       []string `yaml:"trees" doc:"The kernel's device trees."`
	Firmware    []string `yaml:"firmware" doc:"Files of the Raspberry Pi's firmware; boards that have it in flash need none."`
	Boot        []string `yaml:"boot" doc:"Lines of config.txt."`
	Cmdline     []string `yaml:"cmdline" doc:"Words of the kernel's command line."`
}

// Validate reports what no tag can say.
func (a *Appliance) Validate(report func(path, problem, hint string)) {
	if (a.Unavailable == "") == (a.Kernel == "") {
		report("kernel", "exactly one of kernel and unavailable is needed", "say which kernel, or why there is none")
	}
}

// Validate reports what no tag can say.
func (b *Board) Validate(report func(path, problem, hint string)) {
	lines := map[string]bool{}
	for i, p := range b.Header {
		if p.Pin != i+1 {
			report(fmt.Sprintf("header[%d].pin", i), fmt.Sprintf("%d is not the next pin", p.Pin), "list all pins in order")
		}
		if line := strings.HasPrefix(p.Name, "GPIO"); line != (p.Pull != "") {
			report(fmt.Sprintf("header[%d].pull", i), "a line has a pull, a supply has none", "up or down")
		} else if line && lines[p.Name] {
			report(fmt.Sprintf("header[%d].name", i), p.Name+" is there twice", "")
		}
		lines[p.Name] = true
	}
	for i, bus := range b.Buses {
		for j, p := range bus.Pins {
			if !lines[p] {
				report(fmt.Sprintf("buses[%d].pins[%d]", i, j), p+" is not on the header", "")
			}
		}
	}
}

// Overlay returns an overlay by its name, nil if the board's profile has none.
func (b *Board) Overlay(name string) *Overlay {
	for i := range b.Overlays {
		if b.Overlays[i].Name == name {
			return &b.Overlays[i]
		}
	}
	return nil
}

// IDs are the boards' names on the command line.
func IDs() []string {
	entries, err := fs.Glob(files, "*.yaml")
	if err != nil {
		panic(err) // of a pattern that is written above
	}
	for i, e := range entries {
		entries[i] = strings.TrimSuffix(e, ".yaml")
	}
	slices.Sort(entries)
	return entries
}

// Load returns a board by its name on the command line.
func Load(id string) (*Board, error) {
	text, err := files.ReadFile(id + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("there is no board %q; the boards are %s", id, strings.Join(IDs(), ", "))
	}
	return parse(id, text)
}

func parse(id string, text []byte) (*Board, error) {
	b := &Board{ID: id}
	if err := strict.Decode(id+".yaml", text, b, strict.Options{}); err != nil {
		return nil, err
	}
	return b, nil
}
