package doctor

import "golang.org/x/sys/unix"

// synchronised asks the kernel, to whom whoever sets the clock tells it.
func synchronised() (synchronised, known bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	const unsynchronised = 5 // TIME_ERROR (adjtimex(2))
	return state != unsynchronised && t.Status&unix.STA_UNSYNC == 0, err == nil
}
