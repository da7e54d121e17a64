package gateway

import (
	"context"
	"errors"
	"log/slog"
)

// sequence starts and stops stages, by name, in whatever order it is told.
type sequence struct {
	log     *slog.Logger
	stages  map[string]*stage
	running map[string]*running
	failed  func(*stage, Task, error)
}

func newSequence(log *slog.Logger, stages []*stage, failed func(*stage, Task, error)) *sequence {
	q := &sequence{log: log, stages: map[string]*stage{}, running: map[string]*running{}, failed: failed}
	for _, s := range stages {
		q.stages[s.name] = s
	}
	return q
}

func (q *sequence) start(ctx context.Context, name string) {
	s := q.stages[name]
	q.running[name] = s.start(ctx, q.log, func(t Task, err error) { q.failed(s, t, err) })
}

// stop stops the stages one after the other. The error says which of them did
// not stop in time.
func (q *sequence) stop(names ...string) error {
	var errs []error
	for _, name := range names {
		if r := q.running[name]; r != nil {
			errs = append(errs, r.halt(q.log))
		}
	}
	return errors.Join(errs...)
}
