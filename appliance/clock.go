//go:build linux

package appliance

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/image/layout"
)

// clock keeps the machine's clock: a Raspberry Pi has none that runs without
// power. It begins with the time of the last save, and asks time servers.
type clock struct {
	file string
	logf func(string, ...any)
	wake chan struct{}

	mu      sync.Mutex
	servers []string // as configured, else what DHCP names
	fixed   bool
}

// How often the servers are asked, and the time is saved.
const (
	askAgain = time.Hour
	askSoon  = 15 * time.Second
	ntpPort  = "123"
	// ntpEra is NTP's epoch, in Unix seconds.
	ntpEra = -2208988800
)

func newClock(file string, servers []string, logf func(string, ...any)) *clock {
	return &clock{file: file, logf: logf, wake: make(chan struct{}, 1), servers: servers, fixed: len(servers) > 0}
}

// restore sets a clock that is behind to the last time known.
func (c *clock) restore() {
	last := layout.Epoch
	if info, err := os.Stat(c.file); err == nil && info.ModTime().After(last) {
		last = info.ModTime()
	}
	if time.Now().Before(last) {
		c.set(last)
	}
}

// save remembers the time.
func (c *clock) save() {
	if err := os.WriteFile(c.file, nil, 0o600); err == nil {
		now := time.Now()
		_ = os.Chtimes(c.file, now, now)
	}
}

func (c *clock) set(t time.Time) {
	tv := unix.NsecToTimeval(t.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		c.logf("set the clock: %v", err)
	}
}

// offer names time servers, once the network is there.
func (c *clock) offer(servers []string) {
	c.mu.Lock()
	if !c.fixed {
		c.servers = servers
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run asks the servers once the network is there, and then every hour.
func (c *clock) run(ctx context.Context) {
	select {
	case <-c.wake:
	case <-ctx.Done():
		return
	}
	told := false
	for {
		wait := askSoon
		if err := c.ask(ctx); err == nil {
			wait, told = askAgain, false
			c.save()
		} else if !told {
			told = true
			c.logf("the time is not known: %v", err)
		}
		select {
		case <-time.After(wait):
		case <-c.wake:
		case <-ctx.Done():
			return
		}
	}
}

// ask sets the clock by the first server that answers.
func (c *clock) ask(ctx context.Context) error {
	c.mu.Lock()
	servers := c.servers
	c.mu.Unlock()
	if len(servers) == 0 {
		servers = []string{"pool.ntp.org"}
	}
	var problems []error
	for _, s := range servers {
		offset, err := offsetOf(ctx, net.JoinHostPort(s, ntpPort))
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", s, err))
			continue
		}
		if offset.Abs() > 100*time.Millisecond {
			c.set(time.Now().Add(offset))
			c.logf("the clock was set by %v, by %s", offset.Round(time.Millisecond), s)
		}
		return nil
	}
	return errors.Join(problems...)
}

// offsetOf asks a server how far this clock is behind, by SNTP (RFC 4330).
func offsetOf(ctx context.Context, address string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "udp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	request := make([]byte, 48)
	request[0] = 4<<3 | 3 // version 4, client
	// What the server gives back is random: nobody who cannot see it answers.
	nonce := rand.Uint64()
	binary.BigEndian.PutUint64(request[40:], nonce)
	sent := time.Now()
	if _, err := conn.Write(request); err != nil {
		return 0, err
	}
	answer := make([]byte, 128)
	n, err := conn.Read(answer)
	if err != nil {
		return 0, err
	}
	return readNTP(answer[:n], nonce, sent, time.Now())
}

// readNTP reads a server's answer.
func readNTP(b []byte, nonce uint64, sent, received time.Time) (time.Duration, error) {
	switch {
	case len(b) < 48 || b[0]&7 != 4:
		return 0, errors.New("it answers something else than the time")
	case binary.BigEndian.Uint64(b[24:]) != nonce:
		return 0, errors.New("it answers somebody else")
	case b[0]>>6 == 3 || b[1] == 0 || b[1] > 15:
		return 0, errors.New("it does not know the time itself")
	}
	theirs := func(at int) time.Time {
		v := binary.BigEndian.Uint64(b[at:])
		seconds := int64(v >> 32)
		if seconds < 1<<31 { // after 2036, when the count begins anew
			seconds += 1 << 32
		}
		return time.Unix(seconds+ntpEra, int64((v&0xffffffff)*1e9>>32))
	}
	in, out := theirs(32), theirs(40)
	if in.Before(layout.Epoch) || out.Before(in) {
		return 0, errors.New("its time is before this program's")
	}
	return (in.Sub(sent) + out.Sub(received)) / 2, nil
}
