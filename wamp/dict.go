package wamp

// Dict is a decoded WAMP dictionary. Its values, and those nested in it, are
// of the canonical Go types that every codec decodes to: nil, bool, int64
// (uint64 only above the range of int64), float64, string, []byte, []any and
// map[string]any.
type Dict = map[string]any

// List is a decoded WAMP list, of the same canonical types.
type List = []any

// AsString returns d[key] when it is a string, and "" otherwise.
func AsString(d Dict, key string) string {
	s, _ := d[key].(string)
	return s
}

// AsDict returns d[key] when it is a dictionary, and nil otherwise. Reading
// from the nil Dict is safe, so lookups can be chained.
func AsDict(d Dict, key string) Dict {
	m, _ := d[key].(map[string]any)
	return m
}

// AsBool returns d[key] when it is a boolean, and false otherwise.
func AsBool(d Dict, key string) bool {
	b, _ := d[key].(bool)
	return b
}

// AsList returns d[key] when it is a list, and nil otherwise.
func AsList(d Dict, key string) List {
	l, _ := d[key].([]any)
	return l
}

// AsInt returns d[key] as an integer. It accepts every integer type and
// floats without a fraction, because JSON peers do not tell them apart; ok is
// false for anything else and for values outside the range of int64.
func AsInt(d Dict, key string) (v int64, ok bool) { return ToInt(d[key]) }

// ToInt converts one value to an integer, as AsInt does.
func ToInt(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case int:
		return int64(n), true
	case uint64:
		return int64(n), n <= 1<<63-1
	case ID:
		return int64(n), n <= 1<<63-1
	case uint:
		return int64(n), uint64(n) <= 1<<63-1
	case int32:
		return int64(n), true
	case uint32:
		return int64(n), true
	case int16:
		return int64(n), true
	case uint16:
		return int64(n), true
	case int8:
		return int64(n), true
	case uint8:
		return int64(n), true
	case float64:
		// The upper bound is exclusive: float64(1<<63) itself does not fit.
		if n >= -1<<63 && n < 1<<63 && n == float64(int64(n)) {
			return int64(n), true
		}
	}
	return 0, false
}

// ToFloat converts one canonical numeric value, or any other integer, to a
// float64.
func ToFloat(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case float32:
		return float64(n), true
	case uint64:
		return float64(n), true
	}
	n, ok := ToInt(v)
	return float64(n), ok
}
