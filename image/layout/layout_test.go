package layout

import (
	"strings"
	"testing"
)

func TestAutoboot(t *testing.T) {
	for _, slot := range []int{SlotA, SlotB} {
		text := Autoboot(slot)
		if have, err := ParseAutoboot(text); err != nil || have != slot || len(text) >= 512 {
			t.Errorf("slot %d reads as %d (%v), %d bytes", slot, have, err, len(text))
		}
	}
	if _, err := ParseAutoboot([]byte("[all]\nboot_partition=2\n")); err == nil {
		t.Error("somebody else's autoboot.txt was taken")
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		name             string
		card, most       int64
		slot, data, size int64
	}{
		{"image", Size, 1 << 40, 0, DataAt, DataSize},
		{"no room for the slot", Size + SlotSize - 1, 1 << 40, 0, DataAt, DataSize},
		{"just room", Size + SlotSize, 1 << 40, Size &^ (1<<20 - 1), DataAt, DataSize},
		{"256 MiB", 256 << 20, 1 << 40, 208 << 20, DataAt, 208<<20 - DataAt},
		{"more than most", 32 << 30, 16 << 30, 32<<30 - SlotSize, DataAt, 16 << 30},
		{"more than the table can say", 3 << 40, 16 << 30, 0, DataAt, DataSize},
	} {
		table := NewTable()
		changed := table.Spread(c.card, c.most)
		slot, size := table.Partition(SlotB)
		at, data := table.Partition(Data)
		if changed != (c.slot > 0) || slot != c.slot || at != c.data || data != c.size || changed && size != SlotSize {
			t.Errorf("%s: changed %v, slot at %d, data %d+%d", c.name, changed, slot, at, data)
		}
		if table.Spread(c.card+1<<30, c.most) && changed {
			t.Errorf("%s: spread twice", c.name)
		}
		if !table.Ours() {
			t.Errorf("%s: not ours", c.name)
		}
	}
}

func TestSettings(t *testing.T) {
	const sound = "hostname: gate-1\naddress: 192.168.1.20/24\nrouter: 192.168.1.1\ndns: 192.168.1.1\nupdate: :8022\n"
	if s, err := ParseSettings([]byte(sound)); err != nil || s.DNS[0] != "192.168.1.1" {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, text := range []string{"hostname: a b", "address: 192.168.1.20", "router: 192.168.1.1", "address: 10.0.0.2/8\nrouter: ten", "address: 10.0.0.2/8\ndns: [10.0.0.1, x]", "colour: green"} {
		if _, err := ParseSettings([]byte(text + "\n")); err == nil || !strings.Contains(err.Error(), SettingsFile+":") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
