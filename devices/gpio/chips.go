package gpio

import (
	"sync"

	periph "periph.io/x/conn/v3/gpio"
)

// OpenLine makes one line of a chip; it does not touch it yet. The name is as
// the config has it: the chip says which names it knows. A line may implement
// more than periph asks for: EdgeWaiter for edges with timestamps, Level and
// Keep as Line has them, io.Closer. What it returns must be the same wire every
// time, since a device that failed opens its line anew.
type OpenLine func(line string, cfg LineConfig) (periph.PinIO, error)

// Chips are the GPIO chips that a parameter "chip" may name beside the
// kernel's: the simulated one, and those that other drivers add, such as an
// expander on a bus under the name of its device. They also hold the interlocks
// between outputs of different chips.
type Chips struct {
	board *simBoard

	mu    sync.Mutex
	chips map[string]OpenLine
	locks map[string]*interlock
}

// NewChips has the simulated chip only.
func NewChips() *Chips {
	c := &Chips{board: newSimBoard(), chips: map[string]OpenLine{}, locks: map[string]*interlock{}}
	c.Add(simChip, func(line string, cfg LineConfig) (periph.PinIO, error) { return c.board.open(line, cfg), nil })
	return c
}

// Add makes a chip known by a name, in place of one that had it. Lines are
// looked up when a device opens them, so the order of the devices does not
// matter.
func (c *Chips) Add(name string, open OpenLine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chips[name] = open
}

// find is nil for a chip that the kernel must know.
func (c *Chips) find(name string) OpenLine {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chips[name]
}

// openPin finds a pin; it does not touch it.
type openPin func() (periph.PinIO, error)

// opener is how the drivers come to their pin. Lines are searched again with
// every opening: a chip may be plugged in later.
func (c *Chips) opener(pin, chip string, cfg LineConfig) (openPin, error) {
	name, err := canonical(pin, chip)
	if err != nil {
		return nil, err
	}
	return func() (periph.PinIO, error) {
		if open := c.find(chip); open != nil {
			return open(name, cfg)
		}
		l, err := Open(name, chip, cfg)
		if err != nil {
			return nil, err // not a nil *Line in an interface
		}
		return l, nil
	}, nil
}
