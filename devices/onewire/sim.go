package onewire

import (
	"fmt"
	"slices"
	"strings"
)

// simulation is the bus "sim": models of sensors, and the kernel's text of
// them.
type simulation struct{ chips map[string]*model }

// model is a DS18B20: its scratchpad (figure "DS18B20 memory map"), and the
// temperature around it.
type model struct {
	sixteenths int16 // of a degree
	pad        [8]byte
}

func newSimulation(sensors []Sensor) *simulation {
	s := &simulation{map[string]*model{}}
	for i, sensor := range sensors {
		s.chips[sensor.ID] = newModel(int16(20*16 + i*24)) // 20, 21.5, 23 °C…
	}
	return s
}

func newModel(sixteenths int16) *model {
	m := &model{sixteenths: sixteenths}
	m.powerUp()
	return m
}

// powerUp leaves what the table "DS18B20 memory map" says: 85 °C, 12 bits.
func (m *model) powerUp() { m.pad = [8]byte{0x50, 0x05, 0x4B, 0x46, 0x7F, 0xFF, 0x0C, 0x10} }

// convert measures. The bits below the resolution are zero here; the data
// sheet calls them undefined.
func (m *model) convert() {
	unused := 3 - m.pad[4]>>5&3
	v := m.sixteenths >> unused << unused
	m.pad[0], m.pad[1] = byte(v), byte(uint16(v)>>8)
	m.pad[6] = 0x10 - m.pad[0]&0x0F
}

// text is what w1_therm writes.
func (m *model) text() string {
	var b strings.Builder
	for _, x := range m.pad {
		fmt.Fprintf(&b, "%02x ", x)
	}
	crc := crc8(m.pad[:])
	fmt.Fprintf(&b, "%02x ", crc)
	milli := int(int16(uint16(m.pad[0])|uint16(m.pad[1])<<8)) * 1000 / 16
	return fmt.Sprintf("%s: crc=%02x YES\n%st=%d\n", b.String(), crc, b.String(), milli)
}

func (s *simulation) Close() error { return nil }

func (s *simulation) list() ([]string, error) {
	var ids []string
	for id := range s.chips {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

func (s *simulation) convert() error {
	for _, m := range s.chips {
		m.convert()
	}
	return nil
}

func (s *simulation) read(id string, resolution int) (string, error) {
	m := s.chips[id]
	if m == nil {
		return "", fmt.Errorf("sensor %s is not on the bus", id)
	}
	if resolution != 0 {
		m.pad[4] = byte(resolution-9)<<5 | 0x1F
	}
	return m.text(), nil
}
