package flash

import (
	"slices"
	"testing"
)

// TestThisMachine looks at the disks that there are: the one that holds / must
// not be written, whatever is allowed. Where / is on none, no disk may that is
// not removable.
func TestThisMachine(t *testing.T) {
	disks, err := System{"/"}.List()
	if err != nil {
		t.Fatal(err)
	}
	everything := Allow{Fixed: true, Mounted: true, MaxSize: 1 << 60}
	for _, d := range disks {
		why := d.Refusals(0, everything)
		t.Logf("%s, %s, %s, mounted at %q, refused for %q", d.Path, d.Title(), d.Bus, d.Mounts, why)
		if len(why) == 0 && (slices.Contains(d.Mounts, "/") || d.RootUnknown && !d.Removable) {
			t.Errorf("%s would be written: %+v", d.Path, d)
		}
	}
}
