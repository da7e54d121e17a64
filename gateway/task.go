package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// Task is one part of the gateway.
type Task interface {
	// Run serves until ctx ends, and then returns nil once everything that it
	// started has ended; an error means that it could not go on.
	Run(ctx context.Context) error
	// Ready is closed when it serves.
	Ready() <-chan struct{}
	// String names it in logs and in the health report.
	String() string
}

// task makes a Task of functions.
type task struct {
	name  string
	ready chan struct{}
	run   func(ctx context.Context, ready func()) error
}

func newTask(name string, run func(ctx context.Context, ready func()) error) *task {
	return &task{name: name, ready: make(chan struct{}), run: run}
}

// Run implements Task.
func (t *task) Run(ctx context.Context) error {
	return t.run(ctx, sync.OnceFunc(func() { close(t.ready) }))
}

// Ready implements Task.
func (t *task) Ready() <-chan struct{} { return t.ready }

// String implements Task.
func (t *task) String() string { return t.name }

// stage is the tasks that start together and stop together.
type stage struct {
	name string
	// bound is how long the tasks may take to stop.
	bound time.Duration
	tasks []Task
	// vital says that the gateway cannot go on without these tasks.
	vital bool
}

// running is a stage whose tasks have been started.
type running struct {
	*stage
	cancel context.CancelFunc
	done   chan struct{} // closed when all its tasks have returned
}

// start starts the stage's tasks. Their context does not end with ctx: only
// halt ends it, so that stages stop one after the other. failed is called for
// every task that ends before its time.
func (s *stage) start(ctx context.Context, log *slog.Logger, failed func(Task, error)) *running {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{stage: s, cancel: cancel, done: make(chan struct{})}
	var all sync.WaitGroup
	for _, t := range s.tasks {
		all.Go(func() {
			err := guard(ctx, t)
			switch {
			case ctx.Err() != nil && err != nil:
				log.Warn("task did not stop cleanly", "task", t.String(), "reason", err)
			case ctx.Err() == nil:
				if err == nil {
					err = errors.New("it ended by itself")
				}
				failed(t, err)
			}
		})
	}
	go func() {
		defer close(r.done)
		all.Wait()
	}()
	return r
}

// halt stops the stage and waits for its tasks, no longer than its bound.
func (r *running) halt(log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.bound)
	defer cancel()
	r.cancel()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
	}
	err := fmt.Errorf("%s did not stop within %v", r.name, r.bound)
	log.Error("shutdown goes on without waiting", "reason", err)
	return err
}

// guard runs a task and makes an error of a panic: a part that breaks must not
// keep the actuators of the others from their safe state.
func guard(ctx context.Context, t Task) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return t.Run(ctx)
}
