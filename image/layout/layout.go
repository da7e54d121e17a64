// Package layout is what the maker of an image and the appliance in it agree
// upon: where things are on a card, and the files that both know.
//
// It has no goroutines and no state, and reads and writes nothing.
package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/postern-iot/postern/gateway/config/strict"
)

// The layout of a card, in bytes.
const (
	BootAt   = 1 << 20
	BootSize = 4 << 20
	SlotAt   = BootAt + BootSize
	SlotSize = 48 << 20
	DataAt   = SlotAt + SlotSize
	DataSize = 16 << 20
	// Size is the size of an image.
	Size = DataAt + DataSize
)

// The partitions' numbers.
const (
	Boot  = 1
	SlotA = 2
	SlotB = 3
	Data  = 4
)

// DiskID is the signature in the master boot record by which the appliance
// finds its card: "PSTN".
const DiskID = 0x4e545350

// Epoch is the time of all files in an image, so that images do not differ, and
// the earliest that an appliance's clock can be.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Files on the data partition.
const (
	ConfigFile   = "config/postern.yaml"
	SettingsFile = "config/appliance.yaml"
	UpdateKey    = "config/update.pub"
	CAFile       = "config/ca.pem"
	KeysDir      = "keys"
	StateDir     = "state"
	LogDir       = "log"
)

// Release says what a slot holds; the file is release.json in the slot and
// /etc/release.json in its initramfs.
type Release struct {
	Version string `json:"version"`
	Board   string `json:"board"`
	// Build differs when anything in the slot does.
	Build string `json:"build"`
}

// Settings are the appliance's own, beside the gateway's configuration.
type Settings struct {
	Hostname string   `yaml:"hostname" doc:"The machine's name."`
	Address  string   `yaml:"address" example:"192.168.1.20/24" doc:"A fixed address; empty for DHCP."`
	Router   string   `yaml:"router" example:"192.168.1.1" doc:"The router, with a fixed address."`
	DNS      []string `yaml:"dns" single:"true" doc:"Name servers, with a fixed address."`
	NTP      []string `yaml:"ntp" single:"true" doc:"Time servers; empty for those that DHCP names, else pool.ntp.org."`
	Update   string   `yaml:"update" example:":8022" doc:"Where updates are taken; empty for nowhere."`
}

// Validate reports what no tag can say.
func (s *Settings) Validate(report func(path, problem, hint string)) {
	if !hostname(s.Hostname) {
		report("hostname", fmt.Sprintf("%q cannot be a machine's name", s.Hostname), "letters, digits and -, at most 63")
	}
	if s.Address != "" {
		if p, err := netip.ParsePrefix(s.Address); err != nil || !p.Addr().Is4() {
			report("address", fmt.Sprintf("%q is not an IPv4 address with the length of its network", s.Address), "as 192.168.1.20/24")
		}
	} else if s.Router != "" || len(s.DNS) > 0 {
		report("address", "a router and name servers are for a fixed address", "give address, or leave them to DHCP")
	}
	for i, a := range append([]string{s.Router}, s.DNS...) {
		if ip, err := netip.ParseAddr(a); a != "" && (err != nil || !ip.Is4()) {
			path := "router"
			if i > 0 {
				path = fmt.Sprintf("dns[%d]", i-1)
			}
			report(path, fmt.Sprintf("%q is not an IPv4 address", a), "as 192.168.1.1")
		}
	}
}

func hostname(s string) bool {
	if len(s) > 63 || strings.HasPrefix(s, "-") {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// ParseSettings reads settings.
func ParseSettings(text []byte) (*Settings, error) {
	s := &Settings{}
	if err := strict.Decode(SettingsFile, text, s, strict.Options{}); err != nil {
		return nil, err
	}
	return s, nil
}

// Autoboot is the boot partition's autoboot.txt: which slot boots, and that a
// reboot that asks for it tries the other once. It is one sector at most, so
// that one write replaces it.
func Autoboot(slot int) []byte {
	text := fmt.Sprintf("[all]\ntryboot_a_b=1\nboot_partition=%d\n[tryboot]\nboot_partition=%d\n", slot, Other(slot))
	return []byte(text + strings.Repeat("#", 500-len(text)) + "\n")
}

// ParseAutoboot returns the slot that an autoboot.txt names.
func ParseAutoboot(text []byte) (int, error) {
	for _, slot := range []int{SlotA, SlotB} {
		if string(text) == string(Autoboot(slot)) {
			return slot, nil
		}
	}
	return 0, errors.New("autoboot.txt is not the appliance's")
}

// Other is the other slot.
func Other(slot int) int { return SlotA + SlotB - slot }

// SlotWord begins the word of the kernel's command line that says which slot it
// comes from. A slot that is put in the other's place gets the other's number.
const SlotWord = "postern.slot="

// Table is a master boot record.
type Table [512]byte

// Types of partitions.
const (
	TypeFAT16 = 0x0e
	TypeLinux = 0x83
)

// NewTable makes an image's master boot record. Slot B is not there yet: the
// appliance makes it when it knows how large the card is.
func NewTable() *Table {
	t := &Table{}
	binary.LittleEndian.PutUint32(t[440:], DiskID)
	t[510], t[511] = 0x55, 0xaa
	t.set(Boot, TypeFAT16, BootAt, BootSize)
	t.set(SlotA, TypeFAT16, SlotAt, SlotSize)
	t.set(Data, TypeLinux, DataAt, DataSize)
	return t
}

// Ours says whether the table is of an appliance's card.
func (t *Table) Ours() bool {
	return t[510] == 0x55 && t[511] == 0xaa && binary.LittleEndian.Uint32(t[440:]) == DiskID
}

// Partition returns where a partition is, in bytes; its size is 0 when it is not
// there.
func (t *Table) Partition(n int) (at, size int64) {
	e := t[446+16*(n-1):]
	return 512 * int64(binary.LittleEndian.Uint32(e[8:])), 512 * int64(binary.LittleEndian.Uint32(e[12:]))
}

func (t *Table) set(n int, kind byte, at, size int64) {
	e := t[446+16*(n-1):]
	// Cylinders, heads and sectors that say "see the numbers of sectors".
	copy(e, []byte{0, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], uint32(at/512))
	binary.LittleEndian.PutUint32(e[12:], uint32(size/512))
}

// Spread uses a card of size bytes: slot B at its end, the data up to there but
// no larger than most. It says whether anything changed; it changes nothing on
// a card that has slot B, or has no room for it.
func (t *Table) Spread(size, most int64) bool {
	if _, have := t.Partition(SlotB); have > 0 {
		return false
	}
	at, old := t.Partition(Data)
	slot := (size - SlotSize) &^ (1<<20 - 1)
	if slot < at+old || slot > 512*(1<<32-1)-SlotSize {
		return false
	}
	t.set(Data, TypeLinux, at, min(slot-at, most))
	t.set(SlotB, TypeFAT16, slot, SlotSize)
	return true
}
