//go:build linux

package appliance

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/image/layout"
)

var hardware = net.HardwareAddr{2, 0, 0, 0, 0, 1}

// answer is a server's message with options.
func answer(xid uint32, options ...[]byte) []byte {
	b := make([]byte, 236)
	b[0] = 2
	binary.BigEndian.PutUint32(b[4:], xid)
	copy(b[16:], []byte{192, 168, 1, 20})
	copy(b[28:], hardware)
	b = append(b, dhcpCookie...)
	for _, o := range options {
		b = append(b, o...)
	}
	return append(b, optEnd)
}

func TestLease(t *testing.T) {
	mask, kind := option(optMask, []byte{255, 255, 255, 0}), option(optType, []byte{acknowledged})
	o := readDHCP(answer(7, kind, []byte{0}, mask, option(optRouter, []byte{192, 168, 1, 1, 192, 168, 1, 2}), option(optDNS, []byte{9, 9, 9, 9, 1, 1, 1, 1, 7}),
		option(optNTP, []byte{192, 168, 1, 3}), option(optTime, []byte{0, 0, 14, 16})), 7, hardware)
	if o == nil {
		t.Fatal("not read")
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l, err := o.lease(now)
	if err != nil {
		t.Fatal(err)
	}
	if l.address.String() != "192.168.1.20/24" || l.router.String() != "192.168.1.1" || len(l.dns) != 2 || l.ntp[0] != "192.168.1.3" ||
		l.renew.Sub(now) != 30*time.Minute || l.end.Sub(now) != time.Hour {
		t.Errorf("have %+v", l)
	}
	for name, b := range map[string][]byte{
		"somebody else's":     answer(8, kind, mask),
		"without a type":      answer(7, mask),
		"an option too long":  append(answer(7, kind)[:243], 1, 200, 1),
		"nothing":             nil,
		"a client's":          dhcpMessage(discover, 7, hardware, nil),
		"no cookie":           make([]byte, 300),
		"an option cut short": append(answer(7, kind)[:243], 1),
	} {
		if readDHCP(b, 7, hardware) != nil {
			t.Errorf("%s: read", name)
		}
	}
	if _, err := readDHCP(answer(7, kind), 7, hardware).lease(now); err == nil {
		t.Error("a lease without a mask")
	}
}

func FuzzReadDHCP(f *testing.F) {
	f.Add(answer(7, option(optType, []byte{offered}), option(optMask, []byte{255, 255, 0, 0})))
	f.Add(answer(7, option(optType, []byte{acknowledged}), []byte{0, 0}, option(optTime, nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o := readDHCP(b, 7, hardware); o != nil {
			if l, err := o.lease(time.Unix(0, 0)); err == nil && (!l.address.IsValid() || len(l.dns) > 4) {
				t.Errorf("%+v", l)
			}
		}
	})
}

func TestNTP(t *testing.T) {
	sent := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	received := sent.Add(100 * time.Millisecond)
	reply := func(change func(b []byte)) []byte {
		b := make([]byte, 48)
		b[0], b[1] = 4<<3|4, 2
		binary.BigEndian.PutUint64(b[24:], 99)
		theirs := uint64(sent.Add(time.Hour).Unix()-ntpEra) << 32
		binary.BigEndian.PutUint64(b[32:], theirs)
		binary.BigEndian.PutUint64(b[40:], theirs)
		change(b)
		return b
	}
	// The answer was on its way for 50 ms each: an hour ahead, less that.
	offset, err := readNTP(reply(func([]byte) {}), 99, sent, received)
	if want := time.Hour - 50*time.Millisecond; err != nil || (offset-want).Abs() > time.Microsecond {
		t.Errorf("offset %v (%v), want %v", offset, err, want)
	}
	for name, change := range map[string]func(b []byte){
		"a client's message":        func(b []byte) { b[0] = 4<<3 | 3 },
		"an answer to somebody":     func(b []byte) { b[24] = 1 },
		"a server without the time": func(b []byte) { b[0] |= 3 << 6 },
		"a kiss of death":           func(b []byte) { b[1] = 0 },
		"a time of long ago":        func(b []byte) { binary.BigEndian.PutUint64(b[32:], 1<<63|5) },
	} {
		if _, err := readNTP(reply(change), 99, sent, received); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := readNTP(make([]byte, 20), 99, sent, received); err == nil {
		t.Error("a short answer was taken")
	}
}

func TestSlotOf(t *testing.T) {
	for line, want := range map[string]int{
		"postern.slot=2 console=tty1": layout.SlotA, "quiet postern.slot=3": layout.SlotB, "postern.slot=4": 0, "": 0, "xpostern.slot=2": 0,
	} {
		if have := slotOf(line); have != want {
			t.Errorf("%q: slot %d, want %d", line, have, want)
		}
	}
}

func TestRenumber(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cmdline.txt")
	if err := os.WriteFile(path, []byte("postern.slot=2 quiet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing is left to do
		if err := renumber(dir, layout.SlotB); err != nil {
			t.Fatal(err)
		}
	}
	if have := firstLine(path); have != "postern.slot=3 quiet" {
		t.Errorf("have %q", have)
	}
	if err := os.WriteFile(path, []byte("quiet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := renumber(dir, layout.SlotB); err == nil {
		t.Error("somebody else's command line was changed")
	}
	if err := overwrite(path, []byte("longer than it was")); err == nil {
		t.Error("a file was overwritten with more than it had")
	}
}

func TestLogRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var console bytes.Buffer
	l := openLog(path, &console)
	line := strings.Repeat("x", 99) + "\n"
	for range maxLog/len(line) + 10 {
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	now, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.Stat(path + ".old")
	if err != nil {
		t.Fatal(err)
	}
	if now.Size() > 2000 || old.Size() > maxLog || now.Size()+old.Size() != int64(console.Len()) {
		t.Errorf("the log has %d bytes, the old one %d, the console %d", now.Size(), old.Size(), console.Len())
	}
}

// A console that takes nothing holds nobody up.
func TestConsoleStuck(t *testing.T) {
	in, out := io.Pipe()
	defer in.Close()
	c := newConsole(out)
	for range 10 * maxLines {
		if n, err := c.Write([]byte("line\n")); n != 5 || err != nil {
			t.Fatal(n, err)
		}
	}
	first := make([]byte, 5)
	if _, err := io.ReadFull(in, first); err != nil || string(first) != "line\n" {
		t.Errorf("%q, %v", first, err)
	}
}

func TestKeysOnce(t *testing.T) {
	dir := t.TempDir()
	said := 0
	logf := func(string, ...any) { said++ }
	for range 2 {
		if err := makeKeys(dir, "gate-1", logf); err != nil {
			t.Fatal(err)
		}
	}
	if said != 1 {
		t.Errorf("keys were made %d times", said)
	}
	info, err := os.Stat(filepath.Join(dir, "tls.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", info, err)
	}
}
