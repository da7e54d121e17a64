package serial

import (
	"encoding/binary"
	"net"
	"sync"
)

// slave plays the units on a line, by the flow charts of the protocol, 6.1 to
// 6.12.
type slave struct {
	mu    sync.Mutex
	units map[byte]*memory
}

// memory is what a unit has: by function code of its reading, and address. An
// address between the lowest and the highest that it has holds 0.
type memory struct {
	tables map[byte]map[int]uint16
	lo, hi map[byte]int
}

func newSlave() *slave { return &slave{units: map[byte]*memory{}} }

// attach gives the line a unit with the registers of p, each with a value that
// tells it from the others.
func (s *slave) attach(p *ModbusParams) {
	m := &memory{tables: map[byte]map[int]uint16{}, lo: map[byte]int{}, hi: map[byte]int{}}
	for i := range p.Registers {
		r := &p.Registers[i]
		words := make([]uint16, r.words())
		var value any = r.Scale*float64(100+i) + r.Offset
		switch {
		case r.Min != nil:
			value = *r.Min
		case r.coil():
			value = false
		case r.Type == typeString:
			value = "sim"[:min(3, 2*r.Length)]
		case r.Bit != nil:
			value = 0.0
		}
		if w, err := r.encode(value); err == nil {
			words = w
		}
		for j, w := range words {
			m.put(r.readFunction(), r.Address+j, w)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.units[byte(p.Unit)] = m
}

func (m *memory) put(table byte, address int, v uint16) {
	if m.tables[table] == nil {
		m.tables[table] = map[int]uint16{}
		m.lo[table], m.hi[table] = address, address
	}
	m.tables[table][address] = v
	m.lo[table], m.hi[table] = min(m.lo[table], address), max(m.hi[table], address)
}

func (m *memory) has(table byte, address, count int) bool {
	return m.tables[table] != nil && address >= m.lo[table] && address+count-1 <= m.hi[table]
}

// serve implements simulator. A request comes as one piece.
func (s *slave) serve(far net.Conn) {
	var buf [512]byte
	for {
		n, err := far.Read(buf[:])
		if err != nil {
			return
		}
		if answer := s.answer(buf[:n]); answer != nil {
			if _, err := far.Write(answer); err != nil {
				return
			}
		}
	}
}

// answer is the frame that answers a frame, nil for none.
func (s *slave) answer(frame []byte) []byte {
	if !sound(frame) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	unit, pdu := frame[0], frame[1:len(frame)-2]
	m := s.units[unit]
	if m == nil || len(pdu) == 0 {
		return nil
	}
	data, code := m.do(pdu)
	if code != 0 {
		return appendRTU(nil, unit, []byte{pdu[0] | fcException, code})
	}
	return appendRTU(nil, unit, append([]byte{pdu[0]}, data...))
}

// do does what a request says and returns what follows the function code in
// the answer, or an exception.
func (m *memory) do(pdu []byte) (data []byte, code byte) {
	if len(pdu) < 5 {
		return nil, 3
	}
	address, value := int(binary.BigEndian.Uint16(pdu[1:])), int(binary.BigEndian.Uint16(pdu[3:]))
	switch pdu[0] {
	case fcReadCoils, fcReadDiscreteInputs, fcReadHolding, fcReadInput:
		return m.read(pdu[0], address, value)
	case fcWriteCoil:
		if value != 0xFF00 && value != 0 {
			return nil, 3
		}
		return pdu[1:5], m.write(fcReadCoils, address, uint16(value>>15))
	case fcWriteRegister:
		return pdu[1:5], m.write(fcReadHolding, address, uint16(value))
	case fcWriteCoils:
		if value < 1 || value > 0x7B0 || len(pdu) != 6+(value+7)/8 {
			return nil, 3
		}
		words := make([]uint16, value)
		for i := range words {
			words[i] = uint16(pdu[6+i/8] >> (i % 8) & 1)
		}
		return pdu[1:5], m.write(fcReadCoils, address, words...)
	case fcWriteRegisters:
		if value < 1 || value > maxWriteRegisters || len(pdu) != 6+2*value {
			return nil, 3
		}
		return pdu[1:5], m.write(fcReadHolding, address, toWords(pdu[6:])...)
	}
	return nil, 1
}

func (m *memory) read(table byte, address, count int) ([]byte, byte) {
	bits := table <= fcReadDiscreteInputs
	switch {
	case count < 1 || bits && count > maxReadBits || !bits && count > maxReadRegisters:
		return nil, 3
	case !m.has(table, address, count):
		return nil, 2
	}
	var data []byte
	if bits {
		data = make([]byte, (count+7)/8)
	}
	for i := range count {
		v := m.tables[table][address+i]
		if bits {
			data[i/8] |= byte(v&1) << (i % 8)
		} else {
			data = binary.BigEndian.AppendUint16(data, v)
		}
	}
	return append([]byte{byte(len(data))}, data...), 0
}

func (m *memory) write(table byte, address int, words ...uint16) byte {
	if !m.has(table, address, len(words)) {
		return 2
	}
	for i, w := range words {
		m.tables[table][address+i] = w
	}
	return 0
}
