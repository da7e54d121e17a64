package codec

import (
	"slices"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// value writes a Go value. The canonical types and their nearest kin are
// written here; anything else (structs, pointers, named types, typed lists and
// maps) goes to the serialization's library.
func (w *writer) value(v any, depth int) {
	if depth > maxDepth {
		w.fail("value nested deeper than %d levels", maxDepth)
		return
	}
	switch v := v.(type) {
	case nil:
		w.null()
	case bool:
		w.bool(v)
	case string:
		w.string(v)
	case *string: // these two are of one who sends often, without a box for each value
		if v == nil {
			w.null()
		} else {
			w.string(*v)
		}
	case *int64:
		if v == nil {
			w.null()
		} else {
			w.int(*v)
		}
	case []byte:
		w.binary(v)
	case time.Time:
		w.string(v.Format(time.RFC3339Nano))
	case error:
		w.string(v.Error())
	case []any:
		m := w.open(kindList)
		for _, e := range v {
			w.value(e, depth+1)
		}
		w.close(m)
	case map[string]any:
		writeMap(w, v, func(e any) { w.value(e, depth+1) })
	case []string:
		writeList(w, v, w.string)
	case map[string]string:
		writeMap(w, v, w.string)
	case []map[string]any:
		writeList(w, v, func(e map[string]any) { w.value(e, depth+1) })
	case []wamp.ID:
		writeList(w, v, func(e wamp.ID) { w.uint(uint64(e)) })
	default:
		if !w.number(v) {
			w.reflect(v)
		}
	}
}

func (w *writer) number(v any) bool {
	switch v := v.(type) {
	case int:
		w.int(int64(v))
	case int64:
		w.int(v)
	case float64:
		w.float(v)
	case uint64:
		w.uint(v)
	case wamp.ID:
		w.uint(uint64(v))
	case float32:
		w.float(float64(v))
	case uint:
		w.uint(uint64(v))
	case int32:
		w.int(int64(v))
	case uint32:
		w.uint(uint64(v))
	case int16:
		w.int(int64(v))
	case uint16:
		w.uint(uint64(v))
	case int8:
		w.int(int64(v))
	case uint8:
		w.uint(uint64(v))
	default:
		return false
	}
	return true
}

func (w *writer) reflect(v any) {
	w.item()
	dst, err := w.syntax.appendGo(w.dst, v)
	if err != nil {
		w.fail("encode %T: %w", v, err)
		return
	}
	w.dst = dst
}

func writeList[E any](w *writer, l []E, write func(E)) {
	m := w.open(kindList)
	for _, e := range l {
		write(e)
	}
	w.close(m)
}

// writeMap writes the entries by key, so that equal values have equal bytes.
func writeMap[E any](w *writer, d map[string]E, write func(E)) {
	m := w.open(kindDict)
	var room [16]string
	keys := room[:0]
	for key := range d {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		w.key(key)
		write(d[key])
	}
	w.close(m)
}
