package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// throttledFile is the Raspberry Pi firmware's word on its supply and heat, in
// hexadecimal, as 'vcgencmd get_throttled' shows it.
// Its folder is soc:firmware; a colon cannot be in the path of a Go module's
// file, as those of the tests are.
const throttledFile = "devices/platform/soc/soc?firmware/get_throttled"

// throttling are the firmware's flags: bit n is now, bit n+16 since the start
// (Raspberry Pi documentation, "vcgencmd", get_throttled).
var throttling = []struct {
	bit  uint
	name string
}{{0, "under_voltage"}, {1, "frequency_capped"}, {2, "throttled"}, {3, "soft_temperature_limit"}}

// throttled reads the flags. What the firmware sees now is one word, and what
// it has seen since the start another.
func (m *machine) throttled() (now bool, flags wamp.Dict, err error) {
	found, err := filepath.Glob(filepath.Join(m.Sys, throttledFile))
	if err != nil || len(found) == 0 {
		return false, nil, errNoData
	}
	path := found[0]
	text, err := read(path)
	if err != nil {
		return false, nil, err
	}
	word := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(text)), "0x")
	v, err := strconv.ParseUint(word, 16, 32)
	if err != nil {
		return false, nil, fmt.Errorf("parse %q: %w", path, err)
	}
	flags = wamp.Dict{"flags": int64(v)}
	for _, f := range throttling {
		flags[f.name] = v>>f.bit&1 == 1
		flags[f.name+"_since_start"] = v>>(f.bit+16)&1 == 1
		now = now || v>>f.bit&1 == 1
	}
	return now, flags, nil
}

// card is the wear of an eMMC, or of an SD card that says it.
type card struct {
	used int // percent, the upper end of the step that the card reports
	eol  int // pre_eol_info: 1 normal, 2 warning, 3 urgent
}

// wear reads the worst of what the memory cards say of themselves: life_time
// has two steps of ten percent, 0x01 to 0x0b, and 0 where it is not defined
// (JEDEC eMMC 5.0, EXT_CSD; Linux, drivers/mmc/core/mmc.c).
func (m *machine) wear() (card, error) {
	paths, err := filepath.Glob(filepath.Join(m.Sys, "class", "mmc_host", "mmc*", "mmc*", "life_time"))
	if err != nil || len(paths) == 0 {
		return card{}, errNoData
	}
	var worst card
	for _, path := range paths {
		text, err := read(path)
		if err != nil {
			return card{}, err
		}
		for _, word := range strings.Fields(text) {
			step, err := strconv.ParseUint(word, 0, 8)
			if err != nil || step > 0x0b {
				return card{}, fmt.Errorf("parse %q: %q is no step from 0x00 to 0x0b", path, word)
			}
			worst.used = max(worst.used, min(int(step)*10, 100))
		}
		if text, err := read(filepath.Join(filepath.Dir(path), "pre_eol_info")); err == nil {
			if eol, err := strconv.ParseUint(strings.TrimSpace(text), 0, 8); err == nil && eol <= 3 {
				worst.eol = max(worst.eol, int(eol))
			}
		}
	}
	if worst.used == 0 {
		return card{}, errNoData
	}
	return worst, nil
}

// network is the sum over the interfaces that are hardware.
type network struct {
	received, sent uint64
	up             bool
	links          wamp.Dict
}

// maxLinks bounds the interfaces that are looked at.
const maxLinks = 32

// network reads the interfaces (Linux, Documentation/ABI/testing/
// sysfs-class-net): all but loopback, or the one that is configured.
func (m *machine) network() (network, error) {
	entries, err := os.ReadDir(filepath.Join(m.Sys, "class", "net"))
	if err != nil {
		return network{}, errNoData
	}
	n := network{links: wamp.Dict{}}
	for _, e := range entries {
		name := e.Name()
		dir := filepath.Join(m.Sys, "class", "net", name)
		_, err := os.Stat(filepath.Join(dir, "device"))
		switch {
		case m.Interface == "" && err != nil, m.Interface != "" && name != m.Interface, len(n.links) == maxLinks:
			continue
		}
		rx, err := counter(filepath.Join(dir, "statistics", "rx_bytes"))
		if err != nil {
			return network{}, err
		}
		tx, err := counter(filepath.Join(dir, "statistics", "tx_bytes"))
		if err != nil {
			return network{}, err
		}
		state, err := read(filepath.Join(dir, "operstate"))
		if err != nil {
			return network{}, err
		}
		state = strings.TrimSpace(state)
		link := wamp.Dict{"state": state, "received": int64(rx), "sent": int64(tx)}
		if mac, err := read(filepath.Join(dir, "address")); err == nil {
			link["mac"] = strings.TrimSpace(mac)
		}
		if addresses := m.addresses(name); len(addresses) > 0 {
			link["addresses"] = addresses
		}
		n.links[name] = link
		n.received, n.sent, n.up = n.received+rx, n.sent+tx, n.up || state == "up"
	}
	switch {
	case len(n.links) > 0:
		return n, nil
	case m.Interface != "":
		return network{}, fmt.Errorf("there is no network interface %q", m.Interface)
	}
	return network{}, errNoData
}

func counter(path string) (uint64, error) {
	text, err := read(path)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(strings.TrimSpace(text), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("parse %q: %w", path, err)
	}
	return v, nil
}

// measureBoard publishes what is the board's: throttling, wear, network.
func (m *machine) measureBoard(now time.Time, out devices.Outlet, report func(error, ...string)) {
	sample := devices.Sample{Time: now}
	throttled, flags, err := m.throttled()
	if report(err, "throttled", "throttling"); err == nil {
		out.Emit("throttled", throttled, sample)
		out.Emit("throttling", flags, sample)
	}
	wear, err := m.wear()
	if report(err, "card_used", "card_end"); err == nil {
		out.Emit("card_used", wear.used, sample)
		if wear.eol > 0 {
			out.Emit("card_end", []string{"", "normal", "warning", "urgent"}[wear.eol], sample)
		}
	}
	n, err := m.network()
	if errors.Is(err, fs.ErrNotExist) {
		err = errNoData // an adapter that was unplugged meanwhile
	}
	if report(err, "network_up", "network_received", "network_sent", "network"); err == nil {
		out.Emit("network_up", n.up, sample)
		out.Emit("network_received", int64(n.received), sample)
		out.Emit("network_sent", int64(n.sent), sample)
		out.Emit("network", n.links, sample)
	}
}
