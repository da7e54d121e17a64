//go:build vm

package serial

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/test/vm/acm"
)

// This test runs as root in the machine of test/vm, whose kernel has a USB
// serial gadget plugged into itself.
func TestVMUnplug(t *testing.T) {
	const rounds = 10
	a := acm.New(t, "lines")
	before := 0
	var noticed, back time.Duration
	for round := range rounds {
		plugged := time.Now()
		name := a.Plug()
		far := a.Far()
		p := with(formatCSV, Field{Name: "n", Type: "int"})
		p.Port, p.Baud, p.Safe = name, 115200, "OFF"
		dev, o, stop, result := run(t, p)
		for ready := false; !ready; {
			select {
			case <-o.news:
				ready = true
			case err := <-result: // the node is there a moment before the port
				stop()
				if time.Since(plugged) > 5*time.Second {
					t.Fatalf("round %d: %v", round, err)
				}
				unix.Nanosleep(&unix.Timespec{Nsec: 10e6}, nil)
				dev, o, stop, result = run(t, p)
			}
		}
		lines := bufio.NewReader(far)
		fmt.Fprintf(far, "%d\n", round)
		o.until(t, fmt.Sprintf("n=%d", round))
		back = max(back, time.Since(plugged))
		if _, err := call(t, dev, "write", []byte("hello")); err != nil {
			t.Fatalf("write: %v", err)
		}
		far.SetReadDeadline(time.Now().Add(5 * time.Second))
		if line, err := lines.ReadString('\n'); err != nil || line != "hello\n" {
			t.Fatalf("the device got %q, %v", line, err)
		}

		if round == 0 { // the safe state, to the port that is open and to one that is not
			safe := func(when string) {
				t.Helper()
				if err := dev.Halt(); err != nil {
					t.Errorf("%s: %v", when, err)
				}
				if line, err := lines.ReadString('\n'); err != nil || line != "OFF\n" {
					t.Errorf("%s: the device got %q, %v", when, line, err)
				}
			}
			safe("while it runs")
			stop()
			if err := await(t, result); err != nil {
				t.Error(err)
			}
			safe("stopped")
			dev, o, stop, result = run(t, p)
			o.until(t, "ready")
		}

		unplugged := time.Now()
		a.Unplug()
		err := await(t, result)
		noticed = max(noticed, time.Since(unplugged))
		if err == nil || !strings.Contains(err.Error(), "unplugged") || !strings.Contains(err.Error(), name) {
			t.Fatalf("Run: %v", err)
		}
		stop()
		far.Close()
		a.Gone(name)
		if err := dev.Halt(); err == nil || !strings.Contains(err.Error(), "the safe state is not sent") {
			t.Errorf("without the adapter: %v", err)
		}
		if round == 0 {
			before = descriptors(t)
		}
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors after the first round, %d after the last", before, after)
	}
	t.Logf("%d rounds: unplugging noticed within %v, readings back within %v of plugging in", rounds, noticed.Round(time.Millisecond), back.Round(time.Millisecond))
	if noticed > time.Second || back > 10*time.Second {
		t.Error("too slow")
	}

	p := textParams()
	p.Port = a.ByID
	if _, err := openPort(&p.Line); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "plugged in") {
		t.Errorf("open without an adapter: %v", err)
	}
}
