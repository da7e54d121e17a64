package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// record notes what happens, in order.
type record struct {
	mu   sync.Mutex
	said []string
}

func (r *record) say(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, what)
}

// part is a task that takes some time to stop.
func (r *record) part(name string, stopping time.Duration) Task {
	return newTask(name, func(ctx context.Context, ready func()) error {
		ready()
		r.say("start " + name)
		<-ctx.Done()
		r.say("stopping " + name)
		<-time.After(stopping)
		r.say("stopped " + name)
		return nil
	})
}

func TestStagesStopInOrderAndWithinTheirBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		log := slog.New(slog.DiscardHandler)
		q := newSequence(log, []*stage{
			{name: "router", bound: time.Second, tasks: []Task{r.part("router", 100*time.Millisecond)}},
			{name: "devices", bound: time.Second, tasks: []Task{r.part("devices", 200*time.Millisecond)}},
			{name: "bridge", bound: time.Second, tasks: []Task{r.part("bridge", time.Hour)}},
		}, func(_ *stage, task Task, err error) { t.Errorf("%s failed: %v", task, err) })
		ctx, cancel := context.WithCancel(t.Context())
		for _, name := range []string{"router", "bridge", "devices"} {
			q.start(ctx, name)
			synctest.Wait()
		}
		cancel() // which stops nothing by itself
		synctest.Wait()
		begun := time.Now()
		err := q.stop("devices", "bridge", "router", "nothing")
		if took := time.Since(begun); took != 1300*time.Millisecond {
			t.Errorf("stopping took %v", took)
		}
		if err == nil || err.Error() != "bridge did not stop within 1s" {
			t.Errorf("the error is %v", err)
		}
		want := []string{
			"start router", "start bridge", "start devices", "stopping devices", "stopped devices",
			"stopping bridge", "stopping router", "stopped router",
		}
		r.mu.Lock()
		said := slices.Clone(r.said)
		r.mu.Unlock()
		if !slices.Equal(said, want) {
			t.Errorf("got  %q\nwant %q", said, want)
		}
		<-time.After(time.Hour) // of the bubble's clock: the bridge ends at last
		synctest.Wait()
	})
}

func TestTasksThatEndEarlyAreReported(t *testing.T) {
	for name, c := range map[string]struct {
		run  func() error
		want string
	}{
		"error": {func() error { return errors.New("no more paper") }, "no more paper"},
		"panic": {func() error { panic("out of ink") }, "panic: out of ink"},
		"nil":   {func() error { return nil }, "ended by itself"},
	} {
		synctest.Test(t, func(t *testing.T) {
			failed := make(chan error, 1)
			s := &stage{name: "printer", bound: time.Second, tasks: []Task{
				newTask(name, func(_ context.Context, ready func()) error { ready(); return c.run() }),
			}}
			q := newSequence(slog.New(slog.DiscardHandler), []*stage{s}, func(_ *stage, _ Task, err error) { failed <- err })
			q.start(t.Context(), "printer")
			if err := <-failed; !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
			if err := q.stop("printer"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestHealthKeepsDetailsOnTheMachine(t *testing.T) {
	h := newHealth("1.2")
	h.problems = func() []Problem { return []Problem{{Part: "device pump", State: "back-off", Reason: "no such line"}} }
	ask := func(from string) (int, string) {
		req := httptest.NewRequest("GET", "/healthz", nil)
		req.RemoteAddr = from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w.Code, w.Body.String()
	}
	if status, body := ask("127.0.0.1:5"); status != 503 || !strings.Contains(body, "starting") {
		t.Errorf("before the start: %d %s", status, body)
	}
	h.become(StateOK)
	h.fail(Problem{Part: "mqtt broker"})
	for from, details := range map[string]bool{"127.0.0.1:5": true, "[::1]:5": true, "10.0.0.9:5": false, "@": false} {
		status, body := ask(from)
		if status != 200 || strings.Contains(body, "pump") != details || strings.Contains(body, "mqtt broker") != details || strings.Contains(body, "1.2") != details {
			t.Errorf("from %s: %d %s", from, status, body)
		}
	}
	h.become(StateStopping)
	h.become(StateOK) // too late
	if status, body := ask("127.0.0.1:5"); status != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("at the end: %d %s", status, body)
	}
}
