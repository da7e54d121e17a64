package spi

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
)

// simulation is the bus of the port "sim": models of chips, by the names of
// their devices.
type simulation struct {
	mu    sync.Mutex
	chips map[string]model
}

// model is a chip as its bus sees it: what it answers to the bytes of one
// transfer, byte by byte.
type model func(w []byte) (r []byte)

func newSimulation() *simulation { return &simulation{chips: map[string]model{}} }

func (s *simulation) attach(name string, m model) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chips[name] = m
}

func (s *simulation) tx(name string, _ settings, w []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.chips[name]
	if m == nil {
		return nil, fmt.Errorf("sim: there is no chip %q", name)
	}
	return m(w), nil
}

// Close keeps the chips.
func (s *simulation) Close() error { return nil }

// loop is MOSI joined to MISO.
func loop(w []byte) []byte { return append([]byte{}, w...) }

// newMCP3008Model has an eighth of the reference at ch0, two at ch1, and so on.
// It takes the command bit by bit, wherever its start bit is (DS21295, "Serial
// communication"), and drives its data line only after the command and the
// clock in which it samples; before, the line reads high.
func newMCP3008Model() model {
	return func(w []byte) []byte {
		level := func(ch int) int { return min((ch+1)*128, 1023) }
		var out []byte
		var command, taken, sent, value int
		started := false
		for _, b := range w {
			r := byte(0)
			for bit := 7; bit >= 0; bit-- {
				in := int(b>>bit) & 1
				q := 1
				switch {
				case !started:
					started = in == 1
				case taken < 4:
					command, taken = command<<1|in, taken+1
				case sent == 0: // samples
					value = level(command & 7)
					if command&8 == 0 {
						value = max(0, level(command&7)-level(command&7^1))
					}
					sent++
				case sent == 1: // the null bit
					q, sent = 0, sent+1
				case sent <= 11:
					q, sent = value>>(11-sent)&1, sent+1
				default:
					q = 0
				}
				r = r<<1 | byte(q)
			}
			out = append(out, r)
		}
		return out
	}
}

// max31855Model has two temperatures in °C and the fault bits D2 to D0.
func max31855Model(couple, junction float64, faults uint32) model {
	word := uint32(int32(math.Round(couple*4)))<<18 | uint32(int32(math.Round(junction*16)))<<4&0xFFF0 | faults&7
	if faults&7 != 0 {
		word |= maxFault
	}
	return func(w []byte) []byte {
		r := make([]byte, max(4, len(w)))
		binary.BigEndian.PutUint32(r, word)
		return r[:len(w)]
	}
}
