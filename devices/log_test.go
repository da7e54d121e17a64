package devices

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sharedBuffer is a log that several goroutines write and one reads.
type sharedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *sharedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *sharedBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.buf.String(), s)
}

// A device that stays away for one reason, and whose safe state cannot be
// reached for one reason, is logged once for each, however often it is tried.
func TestFailuresAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log sharedBuffer
		h := testHost(t, DefaultConfig(), map[string]*scripted{"a": {
			run:  func(context.Context, Outlet) error { return errUnplugged },
			halt: func() error { return errors.New("line held by kettle") },
		}})
		for _, d := range h.devices {
			d.log = slog.New(slog.NewTextHandler(&log, nil))
		}
		r := start(t, h, newFakeRealm())
		after(5 * time.Minute)
		if n := r.device("a").Attempts; n < 10 {
			t.Fatalf("%d attempts, want at least 10", n)
		}
		// One at start, before anything runs, and one after the first failure.
		if n := log.count("held by kettle"); n != 2 {
			t.Errorf("the safe state's failure is logged %d times, want 2", n)
		}
		if n := log.count("level=WARN msg=\"device back-off\""); n != 1 {
			t.Errorf("the failure is logged %d times, want 1", n)
		}
		_ = r.stop() // says again that the safe state is not reached
	})
}
