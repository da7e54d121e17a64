package serial

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The catalogue's check values are those of the text "123456789".
func TestChecks(t *testing.T) {
	want := map[string]uint32{
		"crc-8": 0xF4, "crc-8-maxim": 0xA1, "crc-8-nrsc5": 0xF7, "crc-16-arc": 0xBB3D, "crc-16-modbus": 0x4B37, "crc-16-ccitt": 0x29B1,
		"crc-16-xmodem": 0x31C3, "crc-16-kermit": 0x2189, "crc-16-x25": 0x906E, "crc-32": 0xCBF43926, "crc-32-mpeg2": 0x0376E6E7,
		"sum-8": 0xDD, "sum-8-neg": 0x23, "sum-16": 0x1DD, "xor-8": 0x31, "none": 0,
	}
	for name := range crcs {
		if _, ok := want[name]; !ok {
			t.Errorf("%s has no vector", name)
		}
	}
	for name, sum := range want {
		if have := check(name, []byte("123456789")); have != sum {
			t.Errorf("%s: %#x, want %#x", name, have, sum)
		}
		if checkSize(name) < 0 || !strings.Contains(checkNames(), name) {
			t.Errorf("%s is not known", name)
		}
	}
	if checkSize("crc-7") != -1 {
		t.Error("an unknown check has a size")
	}
}

// The examples of the MODBUS Application Protocol Specification V1.1b3, 6.1 to
// 6.12, each a request and its response, and the one of 7.
func TestSpecificationExamples(t *testing.T) {
	for _, c := range []struct {
		section           string
		made              []byte
		request, response string
		data              string
	}{
		{"6.1", readPDU(fcReadCoils, 0x13, 0x13), "01 00 13 00 13", "01 03 CD 6B 05", "CD 6B 05"},
		{"6.2", readPDU(fcReadDiscreteInputs, 0xC4, 0x16), "02 00 C4 00 16", "02 03 AC DB 35", "AC DB 35"},
		{"6.3", readPDU(fcReadHolding, 0x6B, 3), "03 00 6B 00 03", "03 06 02 2B 00 00 00 64", "02 2B 00 00 00 64"},
		{"6.4", readPDU(fcReadInput, 8, 1), "04 00 08 00 01", "04 02 00 0A", "00 0A"},
		{"6.5", writePDU(true, 0xAC, []uint16{1}, false), "05 00 AC FF 00", "05 00 AC FF 00", "00 AC FF 00"},
		{"6.6", writePDU(false, 1, []uint16{3}, false), "06 00 01 00 03", "06 00 01 00 03", "00 01 00 03"},
		{"6.11", unhex(t, "0F 00 13 00 0A 02 CD 01"), "0F 00 13 00 0A 02 CD 01", "0F 00 13 00 0A", "00 13 00 0A"},
		{"6.12", writePDU(false, 1, []uint16{0x000A, 0x0102}, false), "10 00 01 00 02 04 00 0A 01 02", "10 00 01 00 02", "00 01 00 02"},
		{"7", readPDU(fcReadCoils, 0x04A1, 1), "01 04 A1 00 01", "81 02", ""},
	} {
		request, response := unhex(t, c.request), unhex(t, c.response)
		if !bytes.Equal(c.made, request) {
			t.Errorf("%s: request % X, want % X", c.section, c.made, request)
		}
		frame := appendRTU(nil, 0x11, response)
		data, _, err := findAnswer(frame, 0x11, request)
		if c.data == "" {
			var e *exception
			if !errors.As(err, &e) || e.code != 2 || !strings.Contains(err.Error(), "illegal data address") {
				t.Errorf("%s: %v", c.section, err)
			}
		} else if err != nil || !bytes.Equal(data, unhex(t, c.data)) {
			t.Errorf("%s: % X, %v", c.section, data, err)
		}

		// The simulated unit says the same.
		m := newMemory(t, 0x500)
		if body, code := m.do(request); code != response[1] && c.data == "" || c.data != "" && (code != 0 || !bytes.Equal(body, response[1:])) {
			t.Errorf("%s: the unit answers % X, %d", c.section, body, code)
		}
	}
	// 6.1: outputs 20 to 38; 27 to 20 are CD, output 20 is the lowest bit.
	g := group{function: fcReadCoils, start: 0x13, count: 0x13}
	for i, want := range []bool{true, false, true, true, false, false, true, true} {
		if have, err := g.value(&ModbusRegister{Table: tableCoil, Address: 0x13 + i}, unhex(t, "CD 6B 05")); err != nil || have != want {
			t.Errorf("output %d: %v, %v", 20+i, have, err)
		}
	}
}

// newMemory is a unit with the values of the examples, and no coil at limit.
func newMemory(t *testing.T, limit int) *memory {
	m := &memory{tables: map[byte]map[int]uint16{}, lo: map[byte]int{}, hi: map[byte]int{}}
	for _, table := range []byte{fcReadCoils, fcReadDiscreteInputs, fcReadHolding, fcReadInput} {
		m.put(table, 0, 0)
		m.put(table, 0x4A0, 0)
	}
	for table, example := range map[byte]struct {
		at   int
		bits string
	}{fcReadCoils: {0x13, "CD 6B 05"}, fcReadDiscreteInputs: {0xC4, "AC DB 35"}} {
		for i, b := range unhex(t, example.bits) {
			for bit := range 8 {
				m.put(table, example.at+8*i+bit, uint16(b>>bit&1))
			}
		}
	}
	for i, v := range []uint16{0x022B, 0, 0x64} {
		m.put(fcReadHolding, 0x6B+i, v)
	}
	m.put(fcReadInput, 8, 0x0A)
	return m
}

func TestFindAnswer(t *testing.T) {
	ask := readPDU(fcReadHolding, 0x6B, 3)
	good := appendRTU(nil, 17, unhex(t, "03 06 02 2B 00 00 00 64"))
	other := appendRTU(nil, 18, unhex(t, "03 06 02 2B 00 00 00 64"))
	short := appendRTU(nil, 17, unhex(t, "03 04 02 2B 00 00"))
	request := appendRTU(nil, 17, ask)
	broken := slices.Clone(good)
	broken[4] ^= 1
	for _, c := range []struct {
		name         string
		got          []byte
		found, whole bool
	}{
		{"alone", good, true, true},
		{"noise before", append([]byte{0, 0xFF, 17, 3}, good...), true, true},
		{"noise behind", append(slices.Clone(good), 0, 1, 2), true, true},
		{"behind its own request", append(slices.Clone(request), good...), true, true},
		{"behind another unit's", append(slices.Clone(other), good...), true, true},
		{"behind a damaged one", append(slices.Clone(broken), good...), true, true},
		{"another unit's", other, false, false},
		{"to another request", short, false, false},
		{"cut short", good[:len(good)-1], false, false},
		{"damaged", broken, false, true},
		{"nothing", nil, false, false},
	} {
		data, whole, err := findAnswer(c.got, 17, ask)
		if err != nil || (data != nil) != c.found || whole != c.whole {
			t.Errorf("%s: % X, %v, %v", c.name, data, whole, err)
		}
	}
	// Every single damaged bit is noticed.
	for i := range good {
		for bit := range 8 {
			p := slices.Clone(good)
			p[i] ^= 1 << bit
			if data, _, err := findAnswer(p, 17, ask); data != nil || err != nil {
				t.Errorf("byte %d, bit %d: % X, %v", i, bit, data, err)
			}
		}
	}
	// A write is answered by what repeats it only.
	write := writePDU(false, 1, []uint16{3}, false)
	if data, _, _ := findAnswer(appendRTU(nil, 17, unhex(t, "06 00 01 00 04")), 17, write); data != nil {
		t.Error("another value was taken for the answer to a write")
	}
}

func TestModbusValues(t *testing.T) {
	five := 5
	for _, c := range []struct {
		r    ModbusRegister
		raw  string
		want any
	}{
		{ModbusRegister{Type: "u16"}, "FF FE", int64(0xFFFE)},
		{ModbusRegister{Type: "i16"}, "FF FE", int64(-2)},
		{ModbusRegister{Type: "i16", Scale: 0.1}, "FF 38", -20.0},
		{ModbusRegister{Type: "u16", Scale: 0.5, Offset: -40}, "02 8C", 286.0},
		{ModbusRegister{Type: "u16", Bit: &five}, "00 20", true},
		{ModbusRegister{Type: "u16", Bit: &five}, "FF DF", false},
		{ModbusRegister{Type: "u16", Order: "DCBA"}, "34 12", int64(0x1234)},
		{ModbusRegister{Type: "u32"}, "01 02 03 04", int64(0x01020304)},
		{ModbusRegister{Type: "u32", Order: "CDAB"}, "03 04 01 02", int64(0x01020304)},
		{ModbusRegister{Type: "u32", Order: "BADC"}, "02 01 04 03", int64(0x01020304)},
		{ModbusRegister{Type: "u32", Order: "DCBA"}, "04 03 02 01", int64(0x01020304)},
		{ModbusRegister{Type: "i32"}, "FF FF FF FF", int64(-1)},
		{ModbusRegister{Type: "i64"}, "FF FF FF FF FF FF FF FE", int64(-2)},
		{ModbusRegister{Type: "u64", Order: "CDAB"}, "07 08 05 06 03 04 01 02", int64(0x0102030405060708)},
		{ModbusRegister{Type: "u64", Order: "BADC"}, "02 01 04 03 06 05 08 07", int64(0x0102030405060708)},
		{ModbusRegister{Type: "u64", Order: "DCBA"}, "08 07 06 05 04 03 02 01", int64(0x0102030405060708)},
		{ModbusRegister{Type: "f32"}, "42 F6 E9 79", float64(float32(123.456))}, // 123.456 in IEEE 754
		{ModbusRegister{Type: "f32", Order: "CDAB"}, "E9 79 42 F6", float64(float32(123.456))},
		{ModbusRegister{Type: "f64"}, "40 5E DD 2F 1A 9F BE 77", 123.456},
		{ModbusRegister{Type: typeString, Length: 3}, "41 42 43 20 00 00", "ABC"},
		{ModbusRegister{Type: typeString, Length: 3, Order: "BADC"}, "42 41 00 43 00 00", "ABC"},
	} {
		r := defaults(c.r)
		raw := unhex(t, c.raw)
		have, err := r.decode(slices.Clone(raw))
		if err != nil || !reflect.DeepEqual(have, c.want) {
			t.Errorf("%+v: %T %v, %v", r, have, have, err)
			continue
		}
		if r.Bit != nil {
			continue
		}
		if words, err := r.encode(have); err != nil {
			t.Errorf("%+v: encode %v: %v", r, have, err)
		} else if again, err := r.decode(toBytes(words)); err != nil || !reflect.DeepEqual(again, c.want) {
			t.Errorf("%+v: %v comes back as %v, %v", r, have, again, err)
		}
	}
	for _, c := range []struct {
		r   ModbusRegister
		raw string
	}{
		{ModbusRegister{Type: "f32"}, "7F C0 00 00"},
		{ModbusRegister{Type: "f64"}, "7F F0 00 00 00 00 00 00"},
		{ModbusRegister{Type: "u64"}, "FF FF FF FF FF FF FF FF"},
		{ModbusRegister{Type: typeString, Length: 1}, "FF FE"},
	} {
		r := defaults(c.r)
		if v, err := r.decode(unhex(t, c.raw)); err == nil {
			t.Errorf("%s %s: %v", c.r.Type, c.raw, v)
		}
	}
	five5, ten := 5.0, 10.0
	for _, c := range []struct {
		r ModbusRegister
		v any
	}{
		{ModbusRegister{Type: "u16"}, int64(-1)},
		{ModbusRegister{Type: "u16"}, int64(0x10000)},
		{ModbusRegister{Type: "i16"}, int64(0x8000)},
		{ModbusRegister{Type: "i16", Scale: 0.1}, 3276.8},
		{ModbusRegister{Type: "u64"}, int64(-1)},
		{ModbusRegister{Type: "f32"}, 1e300},
		{ModbusRegister{Type: "f64"}, math.NaN()},
		{ModbusRegister{Type: "u16", Min: &five5}, int64(4)},
		{ModbusRegister{Type: "u16", Max: &ten, Scale: 0.1}, 10.1},
		{ModbusRegister{Type: typeString, Length: 1}, "abc"},
		{ModbusRegister{Type: "u16"}, "1"},
		{ModbusRegister{Type: "u16"}, true},
		{ModbusRegister{Table: tableCoil}, 1.0},
	} {
		r := defaults(c.r)
		if words, err := r.encode(c.v); err == nil {
			t.Errorf("%+v takes %v: %v", r, c.v, words)
		}
	}
}

// defaults fills in what a test leaves out.
func defaults(r ModbusRegister) ModbusRegister {
	var d ModbusRegister
	d.SetDefaults()
	if r.Table == "" {
		r.Table = d.Table
	}
	if r.Type == "" {
		r.Type = d.Type
	}
	if r.Order == "" {
		r.Order = d.Order
	}
	if r.Scale == 0 {
		r.Scale = 1
	}
	if r.Access == "" {
		r.Access = d.Access
	}
	return r
}

func TestPlan(t *testing.T) {
	p := newModbusParams()
	p.MaxRead, p.MaxGap = 10, 2
	add := func(table string, address int, typ, interval string) {
		r := defaults(ModbusRegister{Name: fmt.Sprintf("r%d", len(p.Registers)), Table: table, Address: address, Type: typ})
		if interval != "" {
			r.Interval = 60e9
		}
		p.Registers = append(p.Registers, r)
	}
	add(tableHolding, 4, "f32", "")
	add(tableHolding, 0, "u16", "")
	add(tableHolding, 8, "u16", "")   // two apart: along
	add(tableHolding, 12, "u16", "")  // three apart
	add(tableHolding, 20, "u32", "")  // too much for one
	add(tableHolding, 0, "u16", "1m") // less often
	add(tableHolding, 4, "u16", "")   // the same again, as something else
	add(tableInput, 1, "u16", "")
	add(tableCoil, 0, "u16", "")
	add(tableCoil, 32, "u16", "")
	add(tableCoil, 100, "u16", "")
	p.Registers = append(p.Registers, defaults(ModbusRegister{Name: "w", Access: accessWrite}))
	var have []string
	for _, g := range plan(p) {
		have = append(have, fmt.Sprintf("%d:%d+%d(%d)", g.function, g.start, g.count, len(g.members)))
	}
	want := "1:0+33(2) 1:100+1(1) 3:0+1(1) 3:4+5(3) 3:12+1(1) 3:20+2(1) 3:0+1(1) 4:1+1(1)"
	if s := strings.Join(have, " "); s != want {
		t.Errorf("have %s\nwant %s", s, want)
	}
}

func FuzzFindAnswer(f *testing.F) {
	f.Add([]byte("\x11\x03\x06\x02\x2B\x00\x00\x00\x64\xC8\xBA"), uint8(3), uint16(3))
	f.Add([]byte("\x11\x83\x02\xC1\x34"), uint8(3), uint16(3))
	f.Add([]byte("\x00\xFF\x11\x06\x00\x01\x00\x03\x9A\x9B"), uint8(6), uint16(3))
	f.Fuzz(func(t *testing.T, got []byte, function uint8, count uint16) {
		var pdu []byte
		switch function %= 6; {
		case function < 4:
			pdu = readPDU(function+1, 1, int(count)%maxReadRegisters+1)
		default:
			pdu = writePDU(function == 4, 1, []uint16{count & 1}, false)
		}
		data, _, err := findAnswer(got, 0x11, pdu)
		if data != nil && pdu[0] <= fcReadInput && (err != nil || len(data) != answerBytes(pdu)) {
			t.Errorf("%d bytes for %d", len(data), answerBytes(pdu))
		}
		s := newSlave()
		s.units[0x11] = &memory{}
		s.answer(got)
		s.answer(appendRTU(nil, 0x11, got))
	})
}

func FuzzModbusValue(f *testing.F) {
	f.Add([]byte("\x42\xF6\xE9\x79\x00\x00\x00\x01"), uint8(6), uint8(1), 0.1, 0.0)
	f.Fuzz(func(t *testing.T, raw []byte, typ, order uint8, scale, offset float64) {
		r := defaults(ModbusRegister{Type: wordTypes[int(typ)%len(wordTypes)], Order: orders[int(order)%len(orders)], Length: 4, Scale: scale, Offset: offset})
		n := 2 * r.words()
		if len(raw) < n {
			return
		}
		raw = slices.Clone(raw[:n])
		v, err := r.decode(slices.Clone(raw))
		if err != nil {
			return
		}
		words, err := r.encode(v)
		if r.kind() == "int" && (err != nil || !bytes.Equal(toBytes(words), raw)) {
			t.Errorf("%+v: % X is %v, comes back as % X, %v", r, raw, v, toBytes(words), err)
		}
	})
}
