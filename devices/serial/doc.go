// Package serial has the driver "serial-lines": a device on a serial port that
// speaks in lines, whose fields become readings, and to which lines can be
// written.
//
// The port is opened twice (see openPort): tarm/serial sets its speed and
// format, and a second, non-blocking descriptor does the input and output
// through Go's poller, so that reads and writes have deadlines and an unplugged
// adapter is noticed at once.
//
// Goroutines: none of its own. Run reads on the goroutine that the host gives
// it, and returns when its context ends, which closes the port, or when the
// port is gone; the host's back-off opens it again. Procedures write on their
// callers' goroutines, one at a time, each with a deadline.
//
// Whatever arrives is bounded: a line by max_line, and what is too long is
// skipped up to the next delimiter. Lines that do not parse are counted and
// make the device degraded; none of their fields is published.
package serial
