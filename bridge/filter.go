package bridge

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/postern-iot/postern/bridge/expr"
)

// filter holds back messages of one map. It remembers what passed last, for
// each topic or URI: at most maxFiltered of them. Where there are more, one that
// is forgotten passes once more than it need.
type filter struct {
	OnlyIf
	condition *expr.Condition

	mu   sync.Mutex
	last map[string]*passed
}

const maxFiltered = 10_000

// passed is what is known of one topic or URI.
type passed struct {
	value any
	at    time.Time
	since int // messages since, for sample
}

func newFilter(f OnlyIf, captures func(string) bool) (*filter, error) {
	out := &filter{OnlyIf: f}
	if f.Expression == "" {
		return out, nil
	}
	var err error
	if out.condition, err = expr.ParseCondition(f.Expression, captures); err != nil {
		return nil, fmt.Errorf("%q %w", f.Expression, err)
	}
	return out, nil
}

// passes reports whether a message crosses, and remembers it when it does.
// scope holds the message; clears is one without a value.
func (f *filter) passes(name string, clears bool, scope *expr.Scope) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if clears {
		delete(f.last, name)
		return true
	}
	before := f.last[name]
	if before != nil {
		scope.Previous = before.value
	}
	if f.condition != nil && !f.condition.Holds(scope) {
		return false
	}
	value := scope.Value
	if len(scope.Args) != 1 || len(scope.KwArgs) > 0 {
		value = []any{scope.Args, map[string]any(scope.KwArgs)}
	}
	if before == nil {
		f.remember(name, &passed{value: value, at: scope.Now})
		return true
	}
	if f.Sample > 1 {
		if before.since++; before.since < f.Sample {
			return false
		}
	}
	ago := scope.Now.Sub(before.at)
	if ago < f.MinInterval {
		return false
	}
	due := f.Heartbeat > 0 && ago >= f.Heartbeat
	if !due && (f.OnChange || f.Change > 0) && !f.differs(before.value, value) {
		return false
	}
	*before = passed{value: value, at: scope.Now}
	return true
}

func (f *filter) remember(name string, p *passed) {
	if f.last == nil {
		f.last = map[string]*passed{}
	}
	if len(f.last) >= maxFiltered {
		for other := range f.last { // any one
			delete(f.last, other)
			break
		}
	}
	f.last[name] = p
}

func (f *filter) differs(before, now any) bool {
	a, okA := toNumber(before)
	b, okB := toNumber(now)
	if f.Change > 0 && okA && okB {
		// 21.7 is 0.2 more than 21.5, although their difference as binary
		// fractions is a little less.
		return math.Abs(a-b) >= f.Change*(1-1e-9)
	}
	return !expr.Equal(before, now)
}

// toNumber is v as a number.
func toNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}
