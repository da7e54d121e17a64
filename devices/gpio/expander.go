package gpio

import (
	"time"

	periph "periph.io/x/conn/v3/gpio"
)

// Open finds a line of any chip, the kernel's and those that were added: what a
// device needs whose own line is one, such as the interrupt of an expander. It
// does not touch the line.
func (c *Chips) Open(pin, chip string, cfg LineConfig) (periph.PinIO, error) {
	open, err := c.opener(pin, chip, cfg)
	if err != nil {
		return nil, err
	}
	return open()
}

// Debouncer debounces lines of chips that cannot, as the kernel does for its
// own.
type Debouncer struct{ d *debouncer }

// NewDebouncer begins with the level that the line has; clock is that of the
// events that Wait makes.
func NewDebouncer(period time.Duration, edge periph.Edge, level bool, clock func() time.Duration) *Debouncer {
	return &Debouncer{newDebouncer(period, edge, level, clock)}
}

// Wait is EdgeWaiter's WaitEdges over raw, which waits for the edges of both
// directions that the line has; level reads the line.
func (d *Debouncer) Wait(deadline time.Time, buf []Event, raw func(time.Time, []Event) (int, error), level func() (bool, error)) (int, error) {
	return d.d.wait(deadline, buf, raw, level)
}
