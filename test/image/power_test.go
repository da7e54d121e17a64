//go:build image

package image

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cuts is how often the power is cut.
const cuts = 20

// Every total that the meter has acknowledged is on the card, whenever the
// power is cut: while the machine boots, also for the first time, and while it
// writes.
func TestPowerCuts(t *testing.T) {
	path, _ := build(t, "virt")
	card := card(t, path)
	random := rand.New(rand.NewPCG(6, uint64(time.Now().UnixNano())))
	acknowledged, survived := 0, 0
	for i := range cuts {
		m := boot(t, "virt", card, false)
		if i < 4 { // in the middle of booting, the first time in the first start
			time.AfterFunc(time.Duration(1000+random.IntN(2500))*time.Millisecond, func() { _ = m.cmd.Process.Kill() })
			m.end()
			survived++
			continue
		}
		m.see("the gateway is ready")
		if have := m.meter(t); have < acknowledged || have > acknowledged+1 {
			t.Fatalf("after cut %d the meter has %d, and had acknowledged %d", i, have, acknowledged)
		}
		survived++
		acknowledged = m.count(t, acknowledged, time.Duration(random.IntN(1500))*time.Millisecond)
	}
	m := boot(t, "virt", card, false)
	m.see("the gateway is ready")
	if have := m.meter(t); have < acknowledged || have > acknowledged+1 {
		t.Fatalf("after the last cut the meter has %d, and had acknowledged %d", have, acknowledged)
	}
	m.cut()
	checkData(t, card)
	t.Logf("%d of %d power cuts survived, %d totals acknowledged", survived, cuts, acknowledged)
}

// call calls the gateway by the command line's own client.
func (m *machine) call(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, postern, append([]string{"call", "--url", "ws://" + m.http + "/ws"}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// meter reads the meter: setting it to what it has returns that.
func (m *machine) meter(t *testing.T) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := m.call(ctx, "device.meter.get")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	at := strings.Index(out, "total")
	value := regexp.MustCompile(`"?value"?:\s*(-?[0-9]+)`).FindStringSubmatch(out[max(at, 0):])
	if at < 0 || value == nil {
		t.Fatalf("no total in %s", out)
	}
	n, err := strconv.Atoi(value[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// count sets the meter to one more again and again, cuts the power after a
// while, and returns the last total that was acknowledged.
func (m *machine) count(t *testing.T, from int, after time.Duration) int {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begun := make(chan struct{}, 1)
	go func() {
		<-begun
		select {
		case <-time.After(after):
		case <-ctx.Done():
		}
		_ = m.cmd.Process.Kill()
		cancel()
	}()
	for n := from + 1; ; n++ {
		out, err := m.call(ctx, "device.meter.set", fmt.Sprint(n))
		if ctx.Err() != nil || m.hasEnded() {
			if err == nil {
				from = n
			}
			m.end()
			return from
		}
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		from = n
		select {
		case begun <- struct{}{}: // at least one is acknowledged in each life
		default:
		}
	}
}

func (m *machine) hasEnded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}
