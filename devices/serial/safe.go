package serial

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/postern-iot/postern/devices"
)

// safeBound is how long the safe state may take on the line, so that the
// device's halt keeps within its second.
const safeBound = 700 * time.Millisecond

// guarded is a device with a safe state: what is written to it then.
type guarded struct{ *device }

// Release implements devices.Releaser. A command that is on its way meanwhile
// is undone by the host.
func (g guarded) Release() error { return g.Halt() }

// guard makes an actuator of a device that has a safe state.
func (d *device) guard() devices.Device {
	if len(d.safe) == 0 {
		return d
	}
	return guarded{d}
}

// drainer is implemented by ports that can wait until all is sent.
type drainer interface{ drain(until time.Time) error }

// Halt implements devices.Device: it writes the safe state, if there is one, to
// the port that Run serves, else to one that it opens for that.
func (d *device) Halt() error {
	if len(d.safe) == 0 {
		return nil
	}
	until := time.Now().Add(safeBound)
	d.mu.Lock()
	p := d.port
	d.mu.Unlock()
	if p != nil && d.sendSafe(p, until) == nil {
		return nil
	}
	p, err := d.open()
	if err != nil {
		return fmt.Errorf("the safe state is not sent: %w", err)
	}
	// A device that talks without end, a simulated one too, must not wait for us
	// to listen. The goroutine ends when the port is closed.
	var listening sync.WaitGroup
	listening.Go(func() { _, _ = io.Copy(io.Discard, p) })
	defer listening.Wait()
	defer p.Close()
	return d.sendSafe(p, until)
}

func (d *device) sendSafe(p port, until time.Time) error {
	p.SetWriteDeadline(until)
	n, err := p.Write(d.safe)
	if w, ok := p.(drainer); ok && err == nil {
		err = w.drain(until)
	}
	if err != nil {
		return fmt.Errorf("of the safe state %d of %d bytes are sent to serial port %s: %w", n, len(d.safe), d.line.Port, err)
	}
	return nil
}

// checkSafe validates a safe state of n bytes on the line.
func (l *Line) checkSafe(n, longest int, report report) {
	switch {
	case n > longest:
		report("safe", "it is too long", fmt.Sprintf("at most %d bytes", longest))
	case l.onLine(2*n) > safeBound/2: // with what is added and stuffed
		report("safe", fmt.Sprintf("at %d bits a second it takes longer than there is time for", l.Baud), "write less, or raise the speed")
	}
}
