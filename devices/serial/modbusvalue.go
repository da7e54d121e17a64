package serial

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/postern-iot/postern/wamp"
)

// reason is an error's text without the URI.
func reason(err error) string {
	if w := (*wamp.Error)(nil); errors.As(err, &w) && len(w.Args) > 0 {
		return fmt.Sprint(w.Args[0])
	}
	return err.Error()
}

// arrange puts the bytes of words into the order ABCD, or back: each of the
// orders undoes itself.
func arrange(order string, p []byte) {
	if order == "CDAB" || order == "DCBA" { // the words the other way round
		slices.Reverse(p)
		swapBytes(p)
	}
	if order == "BADC" || order == "DCBA" {
		swapBytes(p)
	}
}

func swapBytes(p []byte) {
	for i := 0; i+1 < len(p); i += 2 {
		p[i], p[i+1] = p[i+1], p[i]
	}
}

// decode makes a value of the register's bytes as they came, which it may
// change: bool, int64, float64 or string; an error where there is none.
func (r *ModbusRegister) decode(p []byte) (any, error) {
	if r.Type == typeString {
		// The words stay in their order: a text has no high word.
		if r.Order == "BADC" || r.Order == "DCBA" {
			swapBytes(p)
		}
		text := strings.TrimRight(string(p), "\x00 ")
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return nil, errors.New("the registers hold no text")
		}
		return text, nil
	}
	arrange(r.Order, p)
	var u uint64
	for _, b := range p {
		u = u<<8 | uint64(b)
	}
	if r.Bit != nil {
		return u>>*r.Bit&1 == 1, nil
	}
	var v float64
	unused := 64 - 8*len(p)
	switch r.Type[0] {
	case 'f':
		v = math.Float64frombits(u)
		if r.Type == "f32" {
			v = float64(math.Float32frombits(uint32(u)))
		}
	case 'i':
		if r.kind() == "int" {
			return int64(u<<unused) >> unused, nil
		}
		v = float64(int64(u<<unused) >> unused)
	default:
		if r.kind() == "int" {
			if u > math.MaxInt64 {
				return nil, fmt.Errorf("%d is too large", u)
			}
			return int64(u), nil
		}
		v = float64(u)
	}
	v = v*r.Scale + r.Offset
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil, errors.New("the registers hold no finite number")
	}
	return v, nil
}

// encode makes the words of a value, a *wamp.Error if it cannot be written:
// bool for a coil, string for a string, otherwise a number.
func (r *ModbusRegister) encode(v any) ([]uint16, error) {
	switch v := v.(type) {
	case bool:
		if !r.coil() {
			break
		}
		if v {
			return []uint16{1}, nil
		}
		return []uint16{0}, nil
	case string:
		if r.Type == typeString {
			return r.encodeText(v)
		}
	case int64:
		if !r.coil() && r.Type != typeString {
			if err := r.bounded(float64(v)); err != nil {
				return nil, err
			}
			if r.kind() == "int" {
				return r.encodeInt(v)
			}
			return r.encodeFloat(float64(v))
		}
	case float64:
		if !r.coil() && r.Type != typeString {
			if err := r.bounded(v); err != nil {
				return nil, err
			}
			return r.encodeFloat(v)
		}
	}
	return nil, wamp.Errorf(wamp.ErrInvalidArgument, "%v is no %s", v, r.kind())
}

func (r *ModbusRegister) bounded(v float64) error {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return wamp.Errorf(wamp.ErrInvalidArgument, "%v is not a finite number", v)
	case r.Min != nil && v < *r.Min:
		return wamp.Errorf(wamp.ErrInvalidArgument, "%v is less than the least that may be written, %v", v, *r.Min)
	case r.Max != nil && v > *r.Max:
		return wamp.Errorf(wamp.ErrInvalidArgument, "%v is more than the most that may be written, %v", v, *r.Max)
	}
	return nil
}

func (r *ModbusRegister) encodeFloat(v float64) ([]uint16, error) {
	raw := (v - r.Offset) / r.Scale
	switch {
	case r.Type == "f64":
		return r.pack(math.Float64bits(raw), 8), nil
	case r.Type == "f32":
		if f := float32(raw); !math.IsInf(float64(f), 0) {
			return r.pack(uint64(math.Float32bits(f)), 4), nil
		}
		return nil, r.tooLarge(v)
	}
	raw = math.Round(raw)
	switch {
	case raw >= math.MinInt64 && raw < math.MaxInt64: // the latter is 2^63 as a float
		return r.encodeInt(int64(raw))
	case r.Type == "u64" && raw > 0 && raw < math.MaxUint64:
		return r.pack(uint64(raw), 8), nil
	}
	return nil, r.tooLarge(v)
}

func (r *ModbusRegister) encodeInt(n int64) ([]uint16, error) {
	size := 2 * r.words()
	lo, hi := int64(math.MinInt64), int64(math.MaxInt64)
	switch {
	case r.Type == "u64":
		lo = 0
	case r.Type[0] == 'u':
		lo, hi = 0, 1<<(8*size)-1
	case size < 8:
		lo, hi = -1<<(8*size-1), 1<<(8*size-1)-1
	}
	if n < lo || n > hi {
		return nil, r.tooLarge(n)
	}
	return r.pack(uint64(n), size), nil
}

func (r *ModbusRegister) tooLarge(v any) error {
	return wamp.Errorf(wamp.ErrInvalidArgument, "%v does not fit into %s", v, r.Type)
}

func (r *ModbusRegister) encodeText(s string) ([]uint16, error) {
	if len(s) > 2*r.Length {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "%d bytes do not fit into %d registers", len(s), r.Length)
	}
	p := make([]byte, 2*r.Length)
	copy(p, s)
	if r.Order == "BADC" || r.Order == "DCBA" {
		swapBytes(p)
	}
	return toWords(p), nil
}

// pack lays the low bytes of u out in the register's order.
func (r *ModbusRegister) pack(u uint64, size int) []uint16 {
	p := binary.BigEndian.AppendUint64(nil, u)[8-size:]
	arrange(r.Order, p)
	return toWords(p)
}

func toWords(p []byte) []uint16 {
	words := make([]uint16, len(p)/2)
	for i := range words {
		words[i] = binary.BigEndian.Uint16(p[2*i:])
	}
	return words
}

func toBytes(words []uint16) []byte {
	p := make([]byte, 0, 2*len(words))
	for _, w := range words {
		p = binary.BigEndian.AppendUint16(p, w)
	}
	return p
}
