//go:build vm

package onewire

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/test/vm/tinyusb"
)

// ds2482 is a model of Maxim's bridge from I2C to 1-wire, with sensors behind
// it: the kernel's own drivers ds2482, w1 and w1_therm talk to it.
type ds2482 struct {
	sensors []*remote
	pointer byte
	status  byte
	config  byte
	data    byte

	// The 1-wire side since the last reset.
	command  byte   // that is served
	rest     int    // bytes that it still wants
	taken    []byte // those it has
	searched []*remote
	bit      int
	chosen   []*remote
	answer   []byte
}

// remote is a sensor with its number.
type remote struct {
	rom [8]byte
	*model
}

func newRemote(id string, sixteenths int16) *remote {
	r := &remote{model: newModel(sixteenths)}
	n, err := strconv.ParseUint(strings.TrimPrefix(id, "28-"), 16, 48)
	if err != nil {
		panic(err)
	}
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	r.rom[0] = 0x28
	copy(r.rom[1:7], b[:6])
	r.rom[7] = crc8(r.rom[:7])
	return r
}

func (r *remote) at(bit int) byte { return r.rom[bit/8] >> (bit % 8) & 1 }

// Commands and pointers, tables of the data sheet DS2482-100.
const (
	chipReset    = 0xF0
	setPointer   = 0xE1
	writeConfig  = 0xD2
	wireReset    = 0xB4
	wireBit      = 0x87
	wireWrite    = 0xA5
	wireRead     = 0x96
	wireTriplet  = 0x78
	atStatus     = 0xF0
	atData       = 0xE1
	atConfig     = 0xC3
	statusLevel  = 0x08
	statusReset  = 0x10
	statusFound  = 0x02
	statusSingle = 0x20
)

func (d *ds2482) Write(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	needs := map[byte]int{chipReset: 1, setPointer: 2, writeConfig: 2, wireReset: 1, wireBit: 2, wireWrite: 2, wireRead: 1, wireTriplet: 2}
	if needs[p[0]] != len(p) {
		return false // such as the channels of a DS2482-800
	}
	d.pointer, d.status = atStatus, statusLevel
	switch p[0] {
	case chipReset:
		d.status |= statusReset
		d.config = 0
	case setPointer:
		d.pointer = p[1]
	case writeConfig:
		d.config, d.pointer = p[1]&0x0F, atConfig
	case wireReset:
		d.command, d.rest, d.chosen, d.answer = 0, 0, nil, nil
		if len(d.sensors) > 0 {
			d.status |= statusFound
		}
	case wireBit:
		d.status |= statusSingle // nobody pulls low: external supply, conversion done
	case wireWrite:
		d.take(p[1])
	case wireRead:
		d.data = 0xFF
		if len(d.answer) > 0 {
			d.data, d.answer = d.answer[0], d.answer[1:]
		}
	case wireTriplet:
		d.triplet(p[1] >> 7)
	}
	return true
}

func (d *ds2482) Read(p []byte) bool {
	for i := range p {
		p[i] = map[byte]byte{atStatus: d.status, atData: d.data, atConfig: d.config}[d.pointer]
	}
	return true
}

// triplet reads a bit and its complement of all that are still searched, and
// goes on with those that have the direction.
func (d *ds2482) triplet(direction byte) {
	id, complement := byte(1), byte(1)
	for _, s := range d.searched {
		if s.at(d.bit) == 0 {
			id = 0
		} else {
			complement = 0
		}
	}
	if id != complement || id == 1 {
		direction = id
	}
	d.searched = slices.DeleteFunc(d.searched, func(s *remote) bool { return s.at(d.bit) != direction })
	d.bit++
	d.status |= id<<5 | complement<<6 | direction<<7
}

// take is a byte that is written to the sensors: a ROM command after a reset,
// then a function of those that it chose.
func (d *ds2482) take(b byte) {
	if d.rest > 0 {
		d.taken = append(d.taken, b)
		if d.rest--; d.rest > 0 {
			return
		}
		switch d.command {
		case 0x55: // match ROM
			for _, s := range d.sensors {
				if string(s.rom[:]) == string(d.taken) {
					d.chosen = []*remote{s}
				}
			}
		case 0x4E: // write scratchpad: TH, TL, configuration
			for _, s := range d.chosen {
				copy(s.pad[2:5], d.taken)
			}
		}
		return
	}
	d.taken = nil
	switch d.command = b; b {
	case 0xF0, 0xEC: // search ROM
		d.searched, d.bit = slices.Clone(d.sensors), 0
		if b == 0xEC {
			d.searched = nil
		}
	case 0x55:
		d.rest = 8
	case 0xCC: // skip ROM
		d.chosen = d.sensors
	case 0x44: // convert T
		for _, s := range d.chosen {
			s.convert()
		}
	case 0xBE: // read scratchpad
		for _, s := range d.chosen {
			d.answer = append(s.pad[:], crc8(s.pad[:]))
			d.answer = slices.Clone(d.answer)
		}
	case 0x4E:
		d.rest = 3
	}
}

func (r *running) until(t *testing.T, what string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Logf("it said %q", r.said)
		}
	}()
	tinyusb.Eventually(t, "it says "+what, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		found := strings.Contains(strings.Join(r.said, " "), what)
		if found {
			r.said = nil
		} else if len(r.said) > 20 {
			t.Logf("it says %q", r.said)
			r.said = r.said[10:]
		}
		return found
	})
}

// The kernel's w1_therm behind a DS2482: a sensor that is there, one that comes
// later, values that are none, a bridge that is unplugged.
func TestVMThermometers(t *testing.T) {
	a := tinyusb.Plug(t)
	bridge := &ds2482{sensors: []*remote{newRemote(idA, 25*16+1)}}
	a.Set(0x18, bridge)
	tinyusb.Await(t, true)
	n, _ := tinyusb.Number()
	if err := os.WriteFile("/sys/bus/i2c/devices/i2c-"+strconv.Itoa(n)+"/new_device", []byte("ds2482 0x18\n"), 0); err != nil {
		t.Fatal(err)
	}
	const folder = "/sys/bus/w1/devices/w1_bus_master1/"
	tinyusb.Eventually(t, "the kernel finds the sensor", func() bool {
		_, err := os.Stat(folder + idA + "/w1_slave")
		return err == nil
	})
	d := start(t, open(t, newPool(openTree), func(p *DS18B20Params) { p.Interval, p.Resolution = time.Second, 10 }))
	d.until(t, "ready degraded a=25.062 fault:b")
	d.until(t, "a=25 fault:b") // in steps of 0.25, from the second conversion on
	begin := time.Now()
	a.Do(func() { bridge.sensors = append(bridge.sensors, newRemote(idB, -10*16-2)) })
	d.until(t, "a=25 b=-10.5")
	t.Logf("a new sensor after %v", time.Since(begin).Round(10*time.Millisecond))
	if text, err := os.ReadFile(folder + idB + "/resolution"); err != nil || string(text) != "10\n" {
		t.Errorf("the resolution is %q, %v", text, err)
	}

	// What its cable picks up: one bit is wrong, then nothing answers.
	a.Do(func() { bridge.sensors[1].pad[1] = 0x7F })
	a.Do(func() { bridge.sensors[1].rom[3] ^= 1 })
	d.until(t, "a=25 fault:b")
	a.Do(func() { bridge.sensors[1].rom[3] ^= 1 })
	d.until(t, "b=-10.5")

	a.Unplug()
	select {
	case err := <-d.result:
		t.Logf("unplugged: %v", err)
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not notice that the bridge is gone")
	}
	tinyusb.Eventually(t, "the kernel has no 1-wire bus", func() bool {
		_, err := os.Stat(folder)
		return errors.Is(err, unix.ENOENT)
	})
	<-a.Done
}
