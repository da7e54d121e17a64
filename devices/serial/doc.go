// Package serial has the drivers of devices on serial ports. A device with a
// port of its own (serial-lines and its like) speaks in frames, whose fields
// become readings, and takes what is written to it; Modbus units share a port.
//
// A port is opened twice (see openPort): tarm/serial sets its speed and
// format, and a second, non-blocking descriptor does the input and output
// through Go's poller, so that reads and writes have deadlines and an unplugged
// adapter is noticed at once. Line.open is where every driver gets its
// hardware, or its simulation with "port: sim".
//
// Goroutines: a device with a port of its own has none. Run reads on the
// goroutine that the host gives it, and returns when its context ends, which
// closes the port, or when the port is gone; the host's back-off opens it
// again. Procedures write on their callers' goroutines, one at a time, each
// with a deadline. Modbus has a worker for each port in use, which ends when
// the last device on it stops. A Halt that opens the port for a safe state
// listens to it in a goroutine that ends with it. A simulation is a goroutine that ends when its
// line is closed, and Close waits for it.
//
// Whatever arrives is bounded: a frame by its longest, and what is too long is
// skipped up to the next one. Frames that do not parse are counted and
// make the device degraded; none of their fields is published. Nothing that
// arrives on a line can make the package write.
//
// It is larger than most: it has several protocols, a few files each.
package serial
