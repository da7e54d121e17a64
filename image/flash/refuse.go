package flash

import (
	"fmt"
	"slices"
	"strings"
)

// DefaultMaxSize is the size beyond which a disk is taken for a backup drive
// and not for a card.
const DefaultMaxSize = 300e9

// Allow is what somebody has allowed beyond what is safe for anybody.
type Allow struct {
	Fixed   bool  // disks that are not removable
	Mounted bool  // disks that are mounted, to be unmounted
	MaxSize int64 // bytes; 0 for DefaultMaxSize
}

// needed are where the machine itself lives; what is mounted there, or below
// for those with a slash, is never written.
var needed = []string{"/", "/boot", "/boot/", "/efi", "/usr", "/var", "/var/", "/home", "/home/", "/etc", "/opt", "/root", "/srv", "/nix", "/nix/"}

// Refusals says why the disk must not be written with an image of a size, in
// bytes; 0 for one not known yet. None means it may be.
func (d *Disk) Refusals(image int64, allow Allow) []string {
	var why []string
	refuse := func(format string, a ...any) { why = append(why, fmt.Sprintf(format, a...)) }
	var mounted []string
	for _, m := range d.Mounts {
		if systemMount(m) {
			refuse("this machine runs from it: it holds %s", m)
		} else {
			mounted = append(mounted, m)
		}
	}
	if d.Swap {
		refuse("this machine runs from it: it holds swap space")
	}
	if d.Part != "" && len(why) == 0 {
		refuse("it is part of %s; take that apart first", d.Part)
	}
	if len(mounted) > 0 && (!allow.Mounted || d.Part != "") {
		refuse("it is mounted at %s; unmount it, or let --unmount do it", strings.Join(mounted, ", "))
	}
	switch {
	case d.RootUnknown && !d.Removable:
		refuse("it is not removable, and nobody knows which disk holds / of this machine")
	case !d.Removable && !allow.Fixed:
		refuse("it is not removable; --fixed if it is meant nevertheless")
	}
	if d.ReadOnly {
		refuse("it is read-only: does the card have a lock?")
	}
	most := allow.MaxSize
	if most == 0 {
		most = DefaultMaxSize
	}
	switch {
	case d.Size == 0:
		refuse("there is no medium in it")
	case d.Size < image:
		refuse("it is too small: it has %s (%d bytes), the image %s (%d bytes)", Bytes(d.Size), d.Size, Bytes(image), image)
	case d.Size > most:
		refuse("it has %s, more than a card has; --max-size %d if it is meant nevertheless", Bytes(d.Size), d.Size)
	}
	return why
}

func systemMount(m string) bool {
	return slices.ContainsFunc(needed, func(n string) bool {
		return m == n || n != "/" && strings.HasSuffix(n, "/") && strings.HasPrefix(m, n)
	})
}
