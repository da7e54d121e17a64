// Package expr is the small language of the bridge's configuration: paths into
// a message ($.ENERGY.Power), conditions over it ($value > 3 && {dev} != "x"),
// and templates that build a new one.
//
// It is pure and total: what is compiled cannot fail for want of memory, run for
// ever or reach anything outside its Scope. Text, nodes and depth are bounded
// when it is compiled; evaluation visits every node at most once.
//
// The package has no goroutines and no state.
package expr

import (
	"strconv"
	"time"
)

// The bounds of what is compiled.
const (
	maxText  = 2000 // bytes of one expression, path or text of a template
	maxDepth = 32
	maxNodes = 1000
)

// Scope is what paths, conditions and templates see.
type Scope struct {
	Doc      any            // $: the message itself
	Value    any            // $value
	Args     []any          // $args
	KwArgs   map[string]any // $kwargs
	Previous any            // $previous: the value that passed last
	Topic    string         // $topic
	URI      string         // $uri
	ID       string         // $id: of a request
	Now      time.Time      // $now: RFC 3339, UTC; $now_ms: milliseconds since 1970
	// Capture is what {name} stands for; nil for nothing.
	Capture func(name string) (string, bool)
}

// variables are the names after "$".
var variables = map[string]func(s *Scope) (any, bool){
	"":      func(s *Scope) (any, bool) { return s.Doc, true },
	"value": func(s *Scope) (any, bool) { return s.Value, true },
	"args":  func(s *Scope) (any, bool) { return s.Args, true },
	"kwargs": func(s *Scope) (any, bool) {
		if s.KwArgs == nil {
			return map[string]any{}, true
		}
		return s.KwArgs, true
	},
	"previous": func(s *Scope) (any, bool) { return s.Previous, s.Previous != nil },
	"topic":    func(s *Scope) (any, bool) { return s.Topic, s.Topic != "" },
	"uri":      func(s *Scope) (any, bool) { return s.URI, s.URI != "" },
	"now":      func(s *Scope) (any, bool) { return s.Now.UTC().Format("2006-01-02T15:04:05.000Z"), true },
	"now_ms":   func(s *Scope) (any, bool) { return s.Now.UnixMilli(), true },
	// A number stays one: devices that number their requests expect the same back.
	"id": func(s *Scope) (any, bool) {
		if n, err := strconv.ParseInt(s.ID, 10, 64); err == nil && strconv.FormatInt(n, 10) == s.ID {
			return n, true
		}
		return s.ID, s.ID != ""
	},
}

const variableNames = "$.path, $value, $args, $kwargs, $previous, $topic, $uri, $id, $now and $now_ms"
