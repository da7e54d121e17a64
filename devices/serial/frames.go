package serial

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/postern-iot/postern/devices"
)

// Frames is the driver "serial-frames".
func Frames() devices.Driver {
	return devices.Driver{
		Type:    "serial-frames",
		Summary: "A device on a serial port that speaks in binary frames, described in the configuration.",
		Doc: "For meters, sensors and controllers with a protocol of their own: where a frame begins and ends, which check it has, and what lies in it, as the manual says. " +
			"Frames of fixed size, with a length in them, between start and end bytes, SLIP or COBS. Only a frame whose length, end and check are right is used; " +
			"otherwise the next is searched from the following byte on, and `bad_frames` counts.\n\n" +
			"`write` and `transact` take what lies between: start bytes, length, check and end are added, unless `raw` is given. `transact` returns the next good frame as bytes.\n\n" + safeDoc + "\n\n" + simDoc,
		Example: "name: dust\ntype: serial-frames\nport: /dev/serial/by-id/usb-1a86_USB_Serial-if00-port0\n" +
			"framing: length\nstart: [0x42, 0x4d]              # a Plantower PMS5003\nlength: {at: 2, type: u16, add: 4}\ncheck: {kind: sum-16}\nfields:\n" +
			"  - {name: pm25, at: 12, type: u16, unit: ug/m3}\n  - {name: pm10, at: 14, type: u16, unit: ug/m3}\n",
		NewParams:  func() any { return newFrameParams() },
		Readings:   []devices.Reading{badFrames},
		Procedures: []devices.Procedure{writeProcedure, transactProcedure},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := *params.(*FrameParams)
			return newFrames(&p, func() (port, error) { return p.Line.open(talker(p.simulate)) }).guard(), nil
		},
	}
}

func newFrames(p *FrameParams, open func() (port, error)) *device {
	var safe []byte
	if len(p.Safe) > 0 {
		safe = p.wrap(p.Safe)
	}
	return newStream(protocol{
		safe: safe,
		line: &p.Line, noun: "frame", readings: p.readings(), parse: p.parse, longest: p.MaxFrame,
		timeout: p.Timeout, writeRate: p.WriteRate, framing: p.framing, wrap: p.wrap,
	}, open)
}

func (p *FrameParams) framing() framing {
	switch p.Framing {
	case framingSLIP: // every byte may be two
		return &stuffed{framer{delimiter: []byte{slipEnd}, max: 2 * p.MaxFrame}, p, unslip}
	case framingCOBS:
		return &stuffed{framer{delimiter: []byte{0}, max: p.MaxFrame + p.MaxFrame/254 + 1}, p, uncobs}
	}
	return &cutter{p: p}
}

var (
	errCheck = errors.New("its check is wrong")
	errShort = errors.New("it is too short")
	errEnd   = errors.New("its end is missing")
	errStuff = errors.New("its stuffing is wrong")
)

// sound checks a whole frame.
func (p *FrameParams) sound(frame []byte) error {
	n := len(frame) - len(p.End) - checkSize(p.Check.Kind)
	switch {
	case len(frame) > p.MaxFrame:
		return fmt.Errorf("it is longer than %d bytes", p.MaxFrame)
	case len(frame) < p.least(), n < p.Check.From:
		return errShort
	case !bytes.HasSuffix(frame, p.End):
		return errEnd
	}
	sum := frame[n : len(frame)-len(p.End)]
	if number(sum, p.Check.Endian) != uint64(check(p.Check.Kind, frame[p.Check.From:n])) {
		return errCheck
	}
	return nil
}

// number is an unsigned one of up to eight bytes.
func number(b []byte, endian string) (u uint64) {
	for i := range b {
		if endian == "little" {
			u = u<<8 | uint64(b[len(b)-1-i])
		} else {
			u = u<<8 | uint64(b[i])
		}
	}
	return u
}

func putNumber(b []byte, endian string, u uint64) {
	for i := range b {
		if endian == "little" {
			b[i] = byte(u >> (8 * i))
		} else {
			b[len(b)-1-i] = byte(u >> (8 * i))
		}
	}
}

// cutter finds frames by their start. It keeps less than one frame and what was
// just read.
type cutter struct {
	p    *FrameParams
	buf  []byte
	lost bool // what is no frame was said to be none
}

func (c *cutter) feed(p []byte, frame func([]byte), bad func(error)) {
	c.buf = append(c.buf, p...)
	rest := c.buf
	fail := func(err error) {
		if !c.lost {
			bad(err)
		}
		c.lost, rest = true, rest[1:]
	}
	for len(rest) > 0 {
		at := bytes.Index(rest, c.p.Start)
		if at < 0 { // the start may have begun at the end
			at = max(0, len(rest)-len(c.p.Start)+1)
			for !bytes.HasPrefix(c.p.Start, rest[at:]) {
				at++
			}
		}
		if at > 0 {
			if !c.lost {
				bad(errors.New("it does not begin with the start bytes"))
			}
			c.lost, rest = true, rest[at:]
		}
		n, err := c.size(rest)
		if err != nil {
			fail(err)
			continue
		}
		if n == 0 || n > len(rest) {
			break
		}
		if err := c.p.sound(rest[:n]); err != nil {
			fail(err)
			continue
		}
		frame(rest[:n])
		c.lost, rest = false, rest[n:]
	}
	c.buf = append(c.buf[:0], rest...)
}

// size is the length of the frame that b begins with, 0 while it is not known.
func (c *cutter) size(b []byte) (int, error) {
	p, n := c.p, 0
	switch p.Framing {
	case framingFixed:
		return p.Size, nil
	case framingLength:
		end := p.Length.At + fieldSizes[p.Length.Type]
		if len(b) < end {
			return 0, nil
		}
		n = int(number(b[p.Length.At:end], p.Length.Endian)) + p.Length.Add
		if n < p.least() {
			return 0, errShort
		}
	default:
		if len(b) < len(p.Start) {
			return 0, nil
		}
		i := bytes.Index(b[len(p.Start):], p.End)
		if i < 0 {
			n = len(b)
		} else {
			n = len(p.Start) + i + len(p.End)
		}
		if i < 0 && n <= p.MaxFrame {
			return 0, nil
		}
	}
	if n > p.MaxFrame {
		return 0, fmt.Errorf("it is longer than %d bytes", p.MaxFrame)
	}
	return n, nil
}

// stuffed takes frames apart whose end cannot be in them.
type stuffed struct {
	framer
	p      *FrameParams
	decode func([]byte) ([]byte, error)
}

func (s *stuffed) feed(p []byte, frame func([]byte), bad func(error)) {
	tooLong := s.framer.feed(p, func(b []byte) {
		if len(b) == 0 {
			return
		}
		b, err := s.decode(b)
		if err == nil {
			err = s.p.sound(b)
		}
		if err != nil {
			bad(err)
			return
		}
		frame(b)
	})
	for range tooLong {
		bad(fmt.Errorf("it is longer than %d bytes", s.p.MaxFrame))
	}
}

// SLIP's bytes (RFC 1055).
const (
	slipEnd    = 0xC0
	slipEsc    = 0xDB
	slipEscEnd = 0xDC
	slipEscEsc = 0xDD
)

func slip(b []byte) []byte {
	out := []byte{slipEnd} // ends what noise began
	for _, c := range b {
		switch c {
		case slipEnd:
			out = append(out, slipEsc, slipEscEnd)
		case slipEsc:
			out = append(out, slipEsc, slipEscEsc)
		default:
			out = append(out, c)
		}
	}
	return append(out, slipEnd)
}

// unslip decodes in place.
func unslip(b []byte) ([]byte, error) {
	out := b[:0]
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == slipEsc {
			if i++; i == len(b) {
				return nil, errStuff
			}
			switch b[i] {
			case slipEscEnd:
				c = slipEnd
			case slipEscEsc:
				c = slipEsc
			default:
				return nil, errStuff
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// cobs encodes by Cheshire and Baker, "Consistent Overhead Byte Stuffing", and
// adds the zero.
func cobs(b []byte) []byte {
	out, code := []byte{0}, 0 // code is where the run's length goes
	for i, c := range b {
		if c != 0 {
			out = append(out, c)
		}
		if run := len(out) - code; c == 0 || run == 255 && i < len(b)-1 {
			out[code] = byte(run)
			code = len(out)
			out = append(out, 0)
		}
	}
	out[code] = byte(len(out) - code)
	return append(out, 0)
}

func uncobs(b []byte) ([]byte, error) {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 || n > len(b) {
			return nil, errStuff
		}
		out = append(out, b[1:n]...)
		if b = b[n:]; n < 255 && len(b) > 0 {
			out = append(out, 0)
		}
	}
	return out, nil
}

// wrap makes a frame of what lies between start and check.
func (p *FrameParams) wrap(data []byte) []byte {
	body := append(slices.Clone(p.Start), data...)
	if p.Length != nil {
		body = slices.Insert(body, min(len(body), p.Length.At), make([]byte, fieldSizes[p.Length.Type])...)
	}
	return p.seal(body)
}

// seal adds to start and contents what makes them a frame.
func (p *FrameParams) seal(body []byte) []byte {
	size := checkSize(p.Check.Kind)
	if l := p.Length; l != nil {
		if end := l.At + fieldSizes[l.Type]; end <= len(body) {
			putNumber(body[l.At:end], l.Endian, uint64(len(body)+size+len(p.End)-l.Add))
		}
	}
	sum := check(p.Check.Kind, body[min(len(body), p.Check.From):])
	body = append(body, make([]byte, size)...)
	putNumber(body[len(body)-size:], p.Check.Endian, uint64(sum))
	switch p.Framing {
	case framingSLIP:
		return slip(body)
	case framingCOBS:
		return cobs(body)
	}
	return append(body, p.End...)
}

// parse returns the values of a frame: see parser.parse.
func (p *FrameParams) parse(frame []byte) ([]any, error) {
	if len(p.Fields) == 0 {
		return []any{bytes.Clone(frame)}, nil
	}
	values := make([]any, len(p.Fields))
	for i := range p.Fields {
		f := &p.Fields[i]
		if w := f.When; w != nil && (w.At >= len(frame) || frame[w.At] != w.Value) {
			continue
		}
		if f.At+f.bytes() > len(frame) {
			return nil, fmt.Errorf("field %q: it has %d bytes only", f.Name, len(frame))
		}
		values[i] = f.value(frame[f.At : f.At+f.bytes()])
	}
	return values, nil
}

// value decodes the bytes of a field; an error is a fault.
func (f *FrameField) value(b []byte) any {
	switch f.Type {
	case typeBytes:
		return bytes.Clone(b)
	case typeText:
		if b = bytes.TrimRight(b, "\x00 "); !utf8.Valid(b) {
			return errNotUTF8
		}
		return string(b)
	}
	u := number(b, f.Endian)
	if f.Bit != nil {
		return u>>*f.Bit&1 == 1
	}
	unused := 64 - 8*len(b)
	var v float64
	switch {
	case f.Type == "f32":
		v = float64(math.Float32frombits(uint32(u)))
	case f.Type == "f64":
		v = math.Float64frombits(u)
	case f.Type[0] == 'i' && f.kind() == "int":
		return int64(u<<unused) >> unused
	case f.Type[0] == 'i':
		v = float64(int64(u<<unused) >> unused)
	case f.kind() == "int":
		return u
	default:
		v = float64(u)
	}
	if v = v*f.Scale + f.Offset; math.IsNaN(v) || math.IsInf(v, 0) {
		return errNotFinite
	}
	return v
}

// simulate is the n-th frame of a simulated device. Of the fields that exclude
// each other, it has those of one.
func (p *FrameParams) simulate(n int) []byte {
	size := max(p.least(), p.Size) - checkSize(p.Check.Kind) - len(p.End)
	for i := range p.Fields {
		size = max(size, p.Fields[i].At+p.Fields[i].bytes())
	}
	body := make([]byte, size)
	for i := range p.Fields {
		f := &p.Fields[i]
		at := body[f.At : f.At+f.bytes()]
		switch v := uint64(10*(i+1) + n%10); f.Type {
		case typeText:
			copy(at, "sim")
		case "f32":
			putNumber(at, f.Endian, uint64(math.Float32bits(float32(v))))
		case "f64":
			putNumber(at, f.Endian, math.Float64bits(float64(v)))
		default:
			putNumber(at, f.Endian, v)
		}
	}
	for i := range p.Fields {
		if w := p.Fields[(i+n)%len(p.Fields)].When; w != nil && w.At < size {
			body[w.At] = w.Value
		}
	}
	copy(body, p.Start)
	return p.seal(body)
}
