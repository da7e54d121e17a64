package i2c

import (
	"encoding/binary"
	"fmt"
	"sync"
	"syscall"

	"periph.io/x/conn/v3/physic"
)

// simulation is the bus "sim": models of chips, each with the registers and
// values of an example in its data sheet.
type simulation struct {
	mu    sync.Mutex
	chips map[Address]model
}

// model is a chip as its bus sees it. A false result is no acknowledgement.
type model interface {
	write(p []byte) bool
	read(p []byte) bool
}

func newSimulation() *simulation { return &simulation{chips: map[Address]model{}} }

func (s *simulation) attach(addr Address, m model) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chips[addr] = m
}

// String implements periph's i2c.Bus.
func (s *simulation) String() string { return simBus }

// SetSpeed implements periph's i2c.Bus.
func (s *simulation) SetSpeed(physic.Frequency) error { return nil }

// Close implements periph's i2c.BusCloser: the chips stay.
func (s *simulation) Close() error { return nil }

// Tx implements periph's i2c.Bus.
func (s *simulation) Tx(addr uint16, w, r []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.chips[Address(addr)]
	if m == nil || len(w) > 0 && !m.write(w) || len(r) > 0 && !m.read(r) {
		return fmt.Errorf("sim: %w", syscall.ENXIO)
	}
	return nil
}

// byteChip has registers of a byte, and a pointer that goes on with each.
type byteChip struct {
	mem     [256]byte
	ptr     byte
	written func(reg, v byte) // nil, or what a write does beside
}

func (b *byteChip) write(p []byte) bool {
	b.ptr = p[0]
	for _, v := range p[1:] {
		b.mem[b.ptr] = v
		if b.written != nil {
			b.written(b.ptr, v)
		}
		b.ptr++
	}
	return true
}

func (b *byteChip) read(p []byte) bool {
	for i := range p {
		p[i] = b.mem[b.ptr]
		b.ptr++
	}
	return true
}

// newDescribedModel is a chip of which nothing is known but that it has
// registers: they keep what is written to them, and hold zeros until then.
func newDescribedModel() model { return &byteChip{} }

// newBoschModel is a BMP280 with the calibration and raw values of the example
// in DS001 3.12, or a BME280 with the same and a humidity beside.
func newBoschModel(humid bool) model {
	b := &byteChip{}
	b.mem[boschID] = idBMP280
	for i, v := range []int{27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000} {
		binary.LittleEndian.PutUint16(b.mem[0x88+2*i:], uint16(v))
	}
	if humid {
		b.mem[boschID] = idBME280
		b.mem[0xA1] = 75                                                     // H1
		copy(b.mem[0xE1:], []byte{0x6A, 0x01, 0x00, 0x13, 0x29, 0x03, 0x1E}) // H2 362, H4 313, H5 50, H6 30
	}
	b.written = func(reg, v byte) {
		switch {
		case reg == boschReset && v == 0xB6:
			copy(b.mem[boschData:], []byte{0x80, 0, 0, 0x80, 0, 0, 0x80, 0})
		case reg == boschCtrlMeas && v&3 != 0:
			raw := func(at int, v uint32) { b.mem[at], b.mem[at+1], b.mem[at+2] = byte(v>>12), byte(v>>4), byte(v<<4) }
			raw(boschData, 415148)
			raw(boschData+3, 519888)
			binary.BigEndian.PutUint16(b.mem[boschData+6:], 28000)
			b.mem[boschCtrlMeas] &^= 3 // sleeps again
		}
	}
	return b
}

// sht3xModel answers commands with words and their checksums.
type sht3xModel struct {
	t, h   uint16
	heater bool
	answer []byte
}

func (s *sht3xModel) write(p []byte) bool {
	if len(p) != 2 {
		return false
	}
	s.answer = nil
	word := func(v uint16) {
		b := []byte{byte(v >> 8), byte(v)}
		s.answer = append(s.answer, b[0], b[1], shtCRC(b))
	}
	switch uint16(p[0])<<8 | uint16(p[1]) {
	case shtMeasure:
		word(s.t)
		word(s.h)
	case shtStatus:
		status := uint16(0x8010)
		if s.heater {
			status |= 0x2000
		}
		word(status)
	case shtHeaterOff:
		s.heater = false
	case shtReset:
	default:
		return false
	}
	return true
}

func (s *sht3xModel) read(p []byte) bool {
	if len(s.answer) == 0 {
		return false // a measurement that is not there is not acknowledged
	}
	for i := range p {
		p[i] = 0xFF // what an open line reads
	}
	copy(p, s.answer)
	s.answer = nil
	return true
}

// wordChip has registers of 16 bits, the high byte first.
type wordChip struct {
	mem     [16]uint16
	ptr     byte
	written func(reg byte, v uint16)
}

func (c *wordChip) write(p []byte) bool {
	if p[0] >= byte(len(c.mem)) {
		return false
	}
	c.ptr = p[0]
	if len(p) < 3 {
		return true
	}
	v := binary.BigEndian.Uint16(p[1:])
	c.mem[c.ptr] = v
	if c.written != nil {
		c.written(c.ptr, v)
	}
	return true
}

func (c *wordChip) read(p []byte) bool {
	v := c.mem[c.ptr]
	for i := range p {
		p[i] = byte(v >> (8 - 8*(i&1)))
	}
	return true
}

func newMCP9808Model() model {
	c := &wordChip{}
	c.mem[mcpManufacturer], c.mem[mcpDevice] = 0x0054, 0x0400
	c.mem[mcpAmbient] = 0xC190 // 25 °C, and two alerts
	return c
}

// newADS1115Model has a quarter of the range at every input.
func newADS1115Model() model {
	c := &wordChip{}
	c.mem[adsConfig] = 0x8583 // its reset value
	c.written = func(reg byte, v uint16) {
		if reg == adsConfig {
			c.mem[adsConversion] = 0x2000
			c.mem[adsConfig] = v | adsStart // done
		}
	}
	return c
}

// newINA219Model is the example of SBOS448G 9.2.2.1: 11.98 V and 20 mV at the shunt. It
// computes as the chip does.
func newINA219Model() model {
	c := &wordChip{}
	reset := func() { c.mem = [16]uint16{inaConfig: 0x399F, inaShunt: 0x07D0, inaBus: 0x5D98} }
	reset()
	c.written = func(reg byte, v uint16) {
		switch {
		case reg == inaConfig && v&inaReset != 0:
			reset()
		case reg == inaCalibration:
			// Equations 4 and 5.
			c.mem[inaCurrent] = uint16(uint32(c.mem[inaShunt]) * uint32(v) / 4096)
			c.mem[inaPower] = uint16(uint32(c.mem[inaCurrent]) * uint32(c.mem[inaBus]>>3) / 5000)
		}
	}
	return c
}

// bh1750Model measures on demand.
type bh1750Model struct {
	raw  uint16
	on   bool
	done bool
}

func (b *bh1750Model) write(p []byte) bool {
	switch p[0] {
	case 0x01:
		b.on = true
	case 0x20:
		b.on, b.done = false, true
	}
	return true
}

func (b *bh1750Model) read(p []byte) bool {
	v := uint16(0)
	if b.done {
		v = b.raw
	}
	for i := range p {
		p[i] = byte(v >> (8 - 8*(i&1)))
	}
	return true
}
