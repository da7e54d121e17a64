package sparkplug

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// DataType is the type of a metric's value.
type DataType uint32

// The data types that are used here, with the numbers of the protobuf definition.
const (
	Int8     DataType = 1
	Int16    DataType = 2
	Int32    DataType = 3
	Int64    DataType = 4
	UInt8    DataType = 5
	UInt16   DataType = 6
	UInt32   DataType = 7
	UInt64   DataType = 8
	Float    DataType = 9
	Double   DataType = 10
	Boolean  DataType = 11
	String   DataType = 12
	DateTime DataType = 13
	Text     DataType = 14
)

// Payload is the content of a message.
type Payload struct {
	Timestamp uint64 // milliseconds since 1970
	Metrics   []Metric
	Seq       uint64
	HasSeq    bool
}

// Metric is one value with its name or alias.
type Metric struct {
	Name      string
	Alias     uint64
	HasAlias  bool
	Timestamp uint64
	Type      DataType // 0 for none
	// Value is nil for null, bool, int64, uint64, float64 or string.
	Value any
	// Unit and Quality are the properties engUnit and Quality; "" and 0 for none.
	Unit    string
	Quality Quality
}

// Quality is that of a value, by the specification's numbers plus one, so that
// zero is none.
type Quality int32

// The qualities of the specification.
const (
	Bad   Quality = 0 + 1
	Good  Quality = 192 + 1
	Stale Quality = 500 + 1
)

// The wire types of protobuf.
const (
	varint  = 0
	fixed64 = 1
	chunk   = 2
	fixed32 = 5
)

func appendTag(b []byte, field, wire int) []byte {
	return binary.AppendUvarint(b, uint64(field)<<3|uint64(wire))
}

func appendUint(b []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(appendTag(b, field, varint), v)
}

func appendChunk(b []byte, field int, v []byte) []byte {
	return append(binary.AppendUvarint(appendTag(b, field, chunk), uint64(len(v))), v...)
}

func appendBool(b []byte, field int, v bool) []byte {
	if v {
		return appendUint(b, field, 1)
	}
	return appendUint(b, field, 0)
}

// Append appends the payload as protobuf.
func (p *Payload) Append(b []byte) []byte {
	b = appendUint(b, 1, p.Timestamp)
	for i := range p.Metrics {
		b = appendChunk(b, 2, p.Metrics[i].append(nil))
	}
	if p.HasSeq {
		b = appendUint(b, 3, p.Seq)
	}
	return b
}

func (m *Metric) append(b []byte) []byte {
	if m.Name != "" {
		b = appendChunk(b, 1, []byte(m.Name))
	}
	if m.HasAlias {
		b = appendUint(b, 2, m.Alias)
	}
	if m.Timestamp > 0 {
		b = appendUint(b, 3, m.Timestamp)
	}
	if m.Type > 0 {
		b = appendUint(b, 4, uint64(m.Type))
	}
	if m.Value == nil {
		b = appendBool(b, 7, true)
	}
	if m.Unit != "" || m.Quality != 0 {
		b = appendChunk(b, 9, m.properties())
	}
	return m.appendValue(b)
}

// properties is a PropertySet: keys first, then their values in the same order.
func (m *Metric) properties() []byte {
	var b, values []byte
	if m.Unit != "" {
		b = appendChunk(b, 1, []byte("engUnit"))
		v := appendUint(nil, 1, uint64(String))
		values = appendChunk(values, 2, appendChunk(v, 8, []byte(m.Unit)))
	}
	if m.Quality != 0 {
		b = appendChunk(b, 1, []byte("Quality"))
		v := appendUint(nil, 1, uint64(Int32))
		values = appendChunk(values, 2, appendUint(v, 3, uint64(m.Quality-1)))
	}
	return append(b, values...)
}

func (m *Metric) appendValue(b []byte) []byte {
	switch v := m.Value.(type) {
	case bool:
		return appendBool(b, 14, v)
	case int64:
		if m.Type == Int8 || m.Type == Int16 || m.Type == Int32 {
			return appendUint(b, 10, uint64(uint32(v)))
		}
		return appendUint(b, 11, uint64(v))
	case uint64:
		if m.Type == UInt8 || m.Type == UInt16 {
			return appendUint(b, 10, v&math.MaxUint32)
		}
		return appendUint(b, 11, v)
	case float64:
		if m.Type == Float {
			return binary.LittleEndian.AppendUint32(appendTag(b, 12, fixed32), math.Float32bits(float32(v)))
		}
		return binary.LittleEndian.AppendUint64(appendTag(b, 13, fixed64), math.Float64bits(v))
	case string:
		return appendChunk(b, 15, []byte(v))
	}
	return b
}

// Bounds of what is read.
const (
	MaxPayload = 64 << 10
	maxMetrics = 256
)

var errShort = errors.New("it ends within a field")

// field is one field of a message: a number, or bytes.
type field struct {
	id, wire int
	num      uint64
	bytes    []byte
}

// next reads the first field of b.
func next(b []byte) (f field, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return f, nil, errShort
	}
	f.id, f.wire, b = int(tag>>3), int(tag&7), b[n:]
	switch f.wire {
	case varint:
		if f.num, n = binary.Uvarint(b); n <= 0 {
			return f, nil, errShort
		}
		return f, b[n:], nil
	case fixed64:
		if len(b) < 8 {
			return f, nil, errShort
		}
		f.num = binary.LittleEndian.Uint64(b)
		return f, b[8:], nil
	case fixed32:
		if len(b) < 4 {
			return f, nil, errShort
		}
		f.num = uint64(binary.LittleEndian.Uint32(b))
		return f, b[4:], nil
	case chunk:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return f, nil, errShort
		}
		f.bytes = b[n : n+int(size)]
		return f, b[n+int(size):], nil
	}
	return f, nil, fmt.Errorf("it has a field of the unknown wire type %d", f.wire)
}

// Decode reads a payload. Fields that are not used here are skipped.
func Decode(b []byte) (*Payload, error) {
	if len(b) > MaxPayload {
		return nil, fmt.Errorf("it has %d bytes; %d are taken", len(b), MaxPayload)
	}
	p := &Payload{}
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return nil, err
		}
		b = rest
		switch {
		case f.id == 1 && f.wire == varint:
			p.Timestamp = f.num
		case f.id == 2 && f.wire == chunk:
			if len(p.Metrics) == maxMetrics {
				return nil, fmt.Errorf("it has more than %d metrics", maxMetrics)
			}
			m, err := decodeMetric(f.bytes)
			if err != nil {
				return nil, err
			}
			p.Metrics = append(p.Metrics, m)
		case f.id == 3 && f.wire == varint:
			p.Seq, p.HasSeq = f.num, true
		}
	}
	return p, nil
}

func decodeMetric(b []byte) (m Metric, err error) {
	var value *field
	null := false
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return m, err
		}
		b = rest
		switch {
		case f.id == 1 && f.wire == chunk:
			if !utf8.Valid(f.bytes) {
				return m, errors.New("a name is not UTF-8")
			}
			m.Name = string(f.bytes)
		case f.id == 2 && f.wire == varint:
			m.Alias, m.HasAlias = f.num, true
		case f.id == 3 && f.wire == varint:
			m.Timestamp = f.num
		case f.id == 4 && f.wire == varint:
			m.Type = DataType(f.num & math.MaxUint32)
		case f.id == 7 && f.wire == varint:
			null = f.num != 0
		case f.id == 9 && f.wire == chunk:
			m.readProperties(f.bytes)
		case f.id >= 10 && f.id <= 15:
			value = &f
		}
	}
	if value != nil && !null {
		m.Value = m.read(*value)
	}
	return m, nil
}

// read is the value in one of a metric's value fields; nil for one that does not
// fit.
func (m *Metric) read(f field) any {
	switch {
	case f.id == 10 && f.wire == varint:
		switch m.Type {
		case Int8, Int16, Int32:
			return int64(int32(uint32(f.num)))
		}
		return f.num & math.MaxUint32
	case f.id == 11 && f.wire == varint:
		if m.Type == Int64 {
			return int64(f.num)
		}
		return f.num
	case f.id == 12 && f.wire == fixed32:
		return float64(math.Float32frombits(uint32(f.num)))
	case f.id == 13 && f.wire == fixed64:
		return math.Float64frombits(f.num)
	case f.id == 14 && f.wire == varint:
		return f.num != 0
	case f.id == 15 && f.wire == chunk && utf8.Valid(f.bytes):
		return string(f.bytes)
	}
	return nil
}

// readProperties takes the two properties that are known; what is damaged is
// left out.
func (m *Metric) readProperties(b []byte) {
	var keys []string
	at := 0
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return
		}
		b = rest
		switch {
		case f.id == 1 && f.wire == chunk && len(keys) < maxMetrics:
			keys = append(keys, string(f.bytes))
		case f.id == 2 && f.wire == chunk:
			for v := f.bytes; len(v) > 0 && at < len(keys); {
				part, rest, err := next(v)
				if err != nil {
					break
				}
				v = rest
				if keys[at] == "engUnit" && part.id == 8 && part.wire == chunk && utf8.Valid(part.bytes) {
					m.Unit = string(part.bytes)
				}
				if keys[at] == "Quality" && part.id == 3 && part.num < 1000 {
					m.Quality = Quality(part.num) + 1
				}
			}
			at++
		}
	}
}
