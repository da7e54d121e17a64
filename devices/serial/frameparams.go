package serial

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices"
)

// FrameParams are the parameters of a "serial-frames".
type FrameParams struct {
	Line      `yaml:",inline"`
	Framing   string        `yaml:"framing" doc:"where a frame begins and ends: fixed (start, and size bytes), length (start, and a length in the frame), delimited (from start to end), slip (RFC 1055) or cobs (with a zero behind each frame)"`
	Start     []uint8       `yaml:"start" doc:"for fixed, length and delimited: the bytes that a frame begins with"`
	End       []uint8       `yaml:"end" doc:"for delimited: the bytes that it ends with; for fixed and length: those too, if it has any"`
	Size      int           `yaml:"size" doc:"for fixed: the whole frame, start and end included"`
	Length    *FrameLength  `yaml:"length" doc:"for length: where the frame says how long it is"`
	MaxFrame  int           `yaml:"max_frame" doc:"the longest frame in bytes; what is longer is none"`
	Check     FrameCheck    `yaml:"check" doc:"the check at the end of a frame, before the end bytes"`
	Fields    []FrameField  `yaml:"fields" doc:"the readings in a frame; without any the whole frame is the reading frame"`
	Timeout   time.Duration `yaml:"timeout" doc:"without a good frame for this long the readings have no value any more; 0s for never"`
	WriteRate int           `yaml:"write_rate" doc:"writes in a second; more are refused"`
	Safe      []uint8       `yaml:"safe" doc:"for a device that drives something: what is written, as write does it, at start, before anything is accepted, when the device fails, its controller is gone (control) or the gateway stops; empty for none"`
}

// FrameLength is the length field of a frame.
type FrameLength struct {
	At     int    `yaml:"at" doc:"its place: bytes before it, start included"`
	Type   string `yaml:"type" doc:"u8 or u16"`
	Endian string `yaml:"endian" doc:"big (the high byte first) or little"`
	Add    int    `yaml:"add" doc:"what is added to it to have the bytes of the whole frame, start, check and end included"`
}

// SetDefaults is called before the configuration is read.
func (l *FrameLength) SetDefaults() { *l = FrameLength{Type: "u8", Endian: "big"} }

// FrameCheck is the check of a frame.
type FrameCheck struct {
	Kind   string `yaml:"kind" doc:"none, sum-8, sum-8-neg, sum-16, xor-8, crc-8, crc-8-maxim, crc-8-nrsc5, crc-16-arc, crc-16-modbus, crc-16-ccitt, crc-16-xmodem, crc-16-kermit, crc-16-x25, crc-32 or crc-32-mpeg2"`
	Endian string `yaml:"endian" doc:"big or little"`
	From   int    `yaml:"from" doc:"the first byte that it covers, from 0; up to the check itself"`
}

// FrameField is one value in a frame.
type FrameField struct {
	Name   string     `yaml:"name" required:"true" doc:"the reading's name: a-z, 0-9 and _"`
	At     int        `yaml:"at" required:"true" doc:"its place: bytes before it, start included"`
	Type   string     `yaml:"type" doc:"u8, i8, u16, i16, u24, i24, u32, i32, u64, i64, f32, f64, text or bytes"`
	Endian string     `yaml:"endian" doc:"big (the high byte first) or little"`
	Bit    *int       `yaml:"bit" doc:"for u types: this one bit, from 0, as true or false"`
	Size   int        `yaml:"size" doc:"for text and bytes: how many bytes"`
	Scale  float64    `yaml:"scale" doc:"what the number is multiplied by"`
	Offset float64    `yaml:"offset" doc:"what is then added"`
	Unit   string     `yaml:"unit" doc:"the unit of the value, in UCUM where it has one"`
	Doc    string     `yaml:"doc" doc:"what the reading is"`
	When   *FrameWhen `yaml:"when" doc:"it is only in frames that have this byte"`
}

// FrameWhen tells kinds of frames apart.
type FrameWhen struct {
	At    int   `yaml:"at" doc:"the byte's place"`
	Value uint8 `yaml:"value" doc:"what it is"`
}

// SetDefaults is called before the configuration is read.
func (f *FrameField) SetDefaults() { *f = FrameField{Type: "u8", Endian: "big", Scale: 1} }

const (
	framingFixed     = "fixed"
	framingLength    = "length"
	framingDelimited = "delimited"
	framingSLIP      = "slip"
	framingCOBS      = "cobs"

	typeText  = "text"
	typeBytes = "bytes"

	maxFrameSize  = 4096
	badFramesName = "bad_frames"
)

var (
	framings   = []string{framingFixed, framingLength, framingDelimited, framingSLIP, framingCOBS}
	endians    = []string{"big", "little"}
	fieldSizes = map[string]int{"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u24": 3, "i24": 3, "u32": 4, "i32": 4, "f32": 4, "u64": 8, "i64": 8, "f64": 8, typeText: 0, typeBytes: 0}
	badFrames  = devices.Reading{Name: badFramesName, Type: "int", Doc: "how often what came was no good frame since the device was configured; published when it grows, at most once a second"}
)

func newFrameParams() *FrameParams {
	return &FrameParams{
		Line: newLine(), Framing: framingDelimited, MaxFrame: 256, Check: FrameCheck{Kind: checkNone, Endian: "big"}, WriteRate: 20,
	}
}

// Validate implements devices.Validator.
func (p *FrameParams) Validate(report func(path, problem, hint string)) {
	p.Line.check(report)
	checkTimes(p.Timeout, p.WriteRate, report)
	p.checkSafe(len(p.Safe), p.MaxFrame, report)
	choice := func(path, v string, of []string) {
		if !slices.Contains(of, v) {
			report(path, fmt.Sprintf("%q is not known", v), "write one of "+strings.Join(of, ", "))
		}
	}
	choice("framing", p.Framing, framings)
	choice("check.endian", p.Check.Endian, endians)
	if checkSize(p.Check.Kind) < 0 {
		report("check.kind", fmt.Sprintf("%q is not known", p.Check.Kind), "write one of "+checkNames())
	}
	if p.Check.From < 0 || p.Check.From > maxFrameSize {
		report("check.from", fmt.Sprintf("%d is out of range", p.Check.From), "bytes count from 0")
	}
	if p.MaxFrame < 1 || p.MaxFrame > maxFrameSize {
		report("max_frame", fmt.Sprintf("%d is out of range", p.MaxFrame), fmt.Sprintf("write a number from 1 to %d", maxFrameSize))
	}
	stuffed := p.Framing == framingSLIP || p.Framing == framingCOBS
	if stuffed == (len(p.Start) > 0) || len(p.Start) > 8 {
		report("start", fmt.Sprintf("there are %d bytes", len(p.Start)), "slip and cobs have none, the others 1 to 8")
	}
	if p.Framing == framingDelimited && len(p.End) == 0 || stuffed && len(p.End) > 0 || len(p.End) > 8 {
		report("end", fmt.Sprintf("there are %d bytes", len(p.End)), "delimited has 1 to 8, fixed and length up to 8, slip and cobs none")
	}
	if fixed := p.Framing == framingFixed; fixed != (p.Size != 0) || fixed && (p.Size < p.least() || p.Size > p.MaxFrame) {
		report("size", fmt.Sprintf("%d is not possible", p.Size), "it is for fixed, where it is the whole frame, at most max_frame")
	}
	if l := p.Length; (l != nil) != (p.Framing == framingLength) {
		report("length", "it belongs to the framing length", "say where the length is: {at: 2, add: 5}")
	} else if l != nil {
		choice("length.endian", l.Endian, endians)
		choice("length.type", l.Type, []string{"u8", "u16"})
		if l.At < len(p.Start) || l.At > 64 || l.Add < -64 || l.Add > 64 {
			report("length.at", fmt.Sprintf("at %d with add %d is not possible", l.At, l.Add), "it is behind the start bytes, within 64; add is from -64 to 64")
		}
	}
	if len(p.Fields) > maxFields {
		report("fields", fmt.Sprintf("there are more than %d", maxFields), "")
	}
	seen := map[string]bool{badFramesName: true}
	for i := range p.Fields {
		p.Fields[i].check(fmt.Sprintf("fields[%d]", i), p.MaxFrame, seen, report)
	}
}

// least is the shortest frame: what is in each.
func (p *FrameParams) least() int {
	n := len(p.Start) + max(0, checkSize(p.Check.Kind)) + len(p.End)
	if p.Length != nil {
		n = max(n, p.Length.At+fieldSizes[p.Length.Type])
	}
	return max(n, 1)
}

func (f *FrameField) check(path string, longest int, seen map[string]bool, report report) {
	if problem := devices.NameProblem(f.Name); f.Name != "" && problem != "" {
		report(path+".name", fmt.Sprintf("%q cannot be a reading's name", f.Name), "use a-z, 0-9 and _, at most 64 of them")
	} else if seen[f.Name] {
		report(path+".name", fmt.Sprintf("%q is there already", f.Name), "")
	}
	seen[f.Name] = true
	size, known := fieldSizes[f.Type]
	if !known {
		report(path+".type", fmt.Sprintf("%q is not known", f.Type), "write u8 to i64, f32, f64, text or bytes")
		return
	}
	if (size == 0) != (f.Size > 0) {
		report(path+".size", fmt.Sprintf("%d is not possible", f.Size), "it is for text and bytes, which need it")
	}
	if f.At < 0 || f.Size < 0 || f.At+f.bytes() > longest {
		report(path+".at", "it is not within max_frame", "")
	}
	if !slices.Contains(endians, f.Endian) {
		report(path+".endian", fmt.Sprintf("%q is not known", f.Endian), "write big or little")
	}
	if f.Bit != nil && (f.Type[0] != 'u' || *f.Bit < 0 || *f.Bit >= 8*size) {
		report(path+".bit", fmt.Sprintf("%s has no bit %d", f.Type, *f.Bit), "bits are those of the types u8 to u64, from 0")
	}
	if f.Scale == 0 || math.IsNaN(f.Scale+f.Offset) || math.IsInf(f.Scale+f.Offset, 0) {
		report(path+".scale", "scale and offset must be finite, scale not 0", "")
	} else if (f.kind() == "bool" || size == 0) && (f.Scale != 1 || f.Offset != 0) {
		report(path+".scale", "scale and offset are for numbers", "")
	}
	if f.When != nil && (f.When.At < 0 || f.When.At >= longest) {
		report(path+".when.at", "it is not within max_frame", "")
	}
}

func (f *FrameField) bytes() int { return fieldSizes[f.Type] + f.Size }

func (f *FrameField) kind() string {
	switch {
	case f.Bit != nil:
		return "bool"
	case f.Type == typeText:
		return "string"
	case f.Type == typeBytes:
		return "bytes"
	case f.Type[0] == 'f', f.Scale != 1, f.Offset != 0:
		return "float"
	}
	return "int"
}

func (p *FrameParams) readings() []devices.Reading {
	var all []devices.Reading
	if len(p.Fields) == 0 {
		all = append(all, devices.Reading{Name: "frame", Type: "bytes", Doc: "a frame as received, without the stuffing of slip and cobs"})
	}
	for i := range p.Fields {
		f := &p.Fields[i]
		doc := f.Doc
		if doc == "" {
			doc = fmt.Sprintf("byte %d of a frame", f.At)
		}
		all = append(all, devices.Reading{Name: f.Name, Type: f.kind(), Unit: f.Unit, Doc: doc})
	}
	return append(all, badFrames)
}
