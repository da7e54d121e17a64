package bus

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line counts how often it is opened and closed.
type line struct{ opened, closed int }

func (l *line) Close() error {
	l.closed++
	return nil
}

func answer(s string) func(*line) ([]byte, error) {
	return func(*line) ([]byte, error) { return []byte(s), nil }
}

// A failure that keep does not approve of opens the bus anew, and the last
// device to go closes it.
func TestReopen(t *testing.T) {
	absent := errors.New("absent")
	var l line
	p := NewPool(func(name string) (*line, error) {
		if name != "a" {
			return nil, errors.New("no bus " + name)
		}
		l.opened++
		return &l, nil
	}, func(err error) bool { return errors.Is(err, absent) })
	c, release := p.Connect("a")
	again, releaseToo := p.Connect("a")
	for _, s := range []struct {
		err            error
		opened, closed int
	}{{nil, 1, 0}, {absent, 1, 0}, {errors.New("unplugged"), 1, 1}, {nil, 2, 1}} {
		_, err := again.Do(t.Context(), time.Second, func(*line) ([]byte, error) { return nil, s.err })
		if !errors.Is(err, s.err) || l.opened != s.opened || l.closed != s.closed {
			t.Errorf("%v: have %v, opened %d, closed %d", s.err, err, l.opened, l.closed)
		}
	}
	if r, err := c.Do(t.Context(), time.Second, answer("hello")); err != nil || string(r) != "hello" || c.Name() != "a" {
		t.Errorf("have %q, %v", r, err)
	}
	release()
	releaseToo()
	if l.opened != l.closed {
		t.Errorf("opened %d times, closed %d times", l.opened, l.closed)
	}
	none, releaseNone := p.Connect("b")
	defer releaseNone()
	if _, err := none.Do(t.Context(), time.Second, answer("")); err == nil || !strings.Contains(err.Error(), "no bus b") {
		t.Errorf("have %v", err)
	}
}

// One that hangs costs its neighbours its deadline; too many that hang are
// refused until one comes back.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(func(string) (*line, error) { return &line{}, nil }, func(error) bool { return true })
		c, release := p.Connect("a")
		back := make(chan struct{})
		hang := func(*line) ([]byte, error) { <-back; return nil, nil }
		for range MaxStuck {
			begin := time.Now()
			done := make(chan error, 1)
			go func() {
				_, err := c.Do(t.Context(), 100*time.Millisecond, hang)
				done <- err
			}()
			synctest.Wait()
			// The neighbour comes when the other one hangs already.
			r, err := c.Do(t.Context(), time.Second, answer("well"))
			if waited := time.Since(begin); err == nil && (string(r) != "well" || waited > 100*time.Millisecond) {
				t.Errorf("the neighbour: %q, %v, after %v", r, err, waited)
			}
			if err := <-done; !errors.Is(err, ErrDeadline) {
				t.Errorf("have %v", err)
			}
		}
		if _, err := c.Do(t.Context(), time.Second, answer("")); !errors.Is(err, ErrDeadline) || !strings.Contains(err.Error(), "held by the kernel") {
			t.Errorf("have %v", err)
		}
		close(back)
		synctest.Wait()
		if r, err := c.Do(t.Context(), time.Second, answer("again")); err != nil || string(r) != "again" {
			t.Errorf("have %q, %v", r, err)
		}
		release()
	})
}

func TestPause(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Pause(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
