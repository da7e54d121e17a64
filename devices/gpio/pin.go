package gpio

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	periph "periph.io/x/conn/v3/gpio"
)

// Event is one edge of a line.
type Event struct {
	// Rising tells a change to the active level (High) from one to the inactive.
	Rising bool
	// Second marks edges of the second line of a pair.
	Second bool
	// Time is the wall clock at the edge.
	Time time.Time
	// Clock is the reading of the line's event clock at the edge. For the
	// default clock that is the time since boot, which no clock change disturbs:
	// subtract two of them to time what is between two edges.
	Clock time.Duration
	// Seq counts the edges of the line from 1, the lost ones included.
	Seq uint32
	// Dropped is how many edges were lost up to here because nobody fetched
	// them before the kernel's buffer was full.
	Dropped uint64
}

// EdgeWaiter is implemented by pins that know more of an edge than that there
// was one: Line and the simulated pins.
type EdgeWaiter interface {
	// WaitEdges waits for edges as set up by In and fills buf with those that
	// have happened, at least one. It returns os.ErrDeadlineExceeded when there
	// was none until the deadline (the zero time is never, a past one asks
	// without waiting), ErrInterrupted when In, Out, Halt or Close ended the
	// wait, and the kernel's error when the line is gone. One wait at a time.
	WaitEdges(deadline time.Time, buf []Event) (int, error)
}

// Failer is implemented by pins whose chip can fail while nothing is asked of
// them, and then no longer drives what they were told to.
type Failer interface {
	// Failed returns a channel that is closed when the chip fails next.
	Failed() <-chan struct{}
}

// ErrInterrupted is how WaitEdges ends when the pin was set up anew, halted or
// closed meanwhile. After Halt it stays so until the next In.
var ErrInterrupted = errors.New("wait for an edge interrupted")

// Clock is a line's event clock.
type Clock uint8

// The event clocks of the kernel.
const (
	ClockMonotonic Clock = iota // CLOCK_MONOTONIC
	ClockRealtime               // CLOCK_REALTIME, since Linux 5.11
	ClockHardware               // the hardware timestamp engine, where there is one
)

// Drive is how an output drives its line.
type Drive uint8

// The drives of the kernel.
const (
	PushPull   Drive = iota // drives both levels
	OpenDrain               // drives low, lets go for high
	OpenSource              // drives high, lets go for low
)

// LineConfig is what a Line is beyond periph's In and Out.
type LineConfig struct {
	// Consumer is the name under which the kernel lists the line as used; at
	// most 31 bytes count. The default is "postern".
	Consumer string
	// ActiveLow inverts the line: High is then the low electrical level.
	ActiveLow bool
	// Drive of the line while it is an output.
	Drive Drive
	// Debounce is how long an input must be stable before a change counts, in
	// whole microseconds; 0 for none. It is the kernel's work, and the
	// package's own where the kernel refuses.
	Debounce time.Duration
	// Clock stamps the edges.
	Clock Clock
	// Buffer is how many edges the kernel keeps until they are fetched; 0 for
	// 1024. The kernel's own default, 16, loses most of a burst.
	Buffer int
}

const defaultBuffer = 1024

// Address is where a line was found.
type Address struct {
	Path   string // "/dev/gpiochip0"
	Chip   string // the chip's label, "pinctrl-bcm2711"
	Offset uint32 // on that chip
	Name   string // the line's name, "" for none
}

// String is like "GPIO17 (/dev/gpiochip0 line 17)".
func (a Address) String() string {
	if a.Name == "" {
		return fmt.Sprintf("%s line %d", a.Path, a.Offset)
	}
	return fmt.Sprintf("%s (%s line %d)", a.Name, a.Path, a.Offset)
}

// header is the 40-pin header that all Raspberry Pis since the B+ share: by pin
// the GPIO's number, and below 0 what else is there.
const (
	power3V3 = -1
	power5V  = -2
	ground   = -3
)

var header = [41]int8{
	0,
	power3V3, power5V, 2, power5V, 3, ground, 4, 14, ground, 15,
	17, 18, 27, ground, 22, 23, power3V3, 24, 10, ground,
	9, 25, 11, 8, ground, 7, 0, 1, 5, ground,
	6, 12, 13, ground, 19, 16, 26, 20, ground, 21,
}

// canonical turns the ways to write a header pin into one, the GPIO's name:
// "P1-11", "p1-11" and "gpio17" are "GPIO17". Any other name stays as it is,
// since line names are told apart by case. A bare number is refused unless the
// chip is named: it could be meant as header pin, GPIO or offset.
func canonical(pin, chip string) (string, error) {
	upper := strings.ToUpper(pin)
	if n, ok := strings.CutPrefix(upper, "P1-"); ok {
		i, err := strconv.Atoi(n)
		if err != nil || i < 1 || i >= len(header) {
			return "", fmt.Errorf("pin %q: the header has P1-1 to P1-%d", pin, len(header)-1)
		}
		switch g := header[i]; g {
		case power3V3:
			return "", fmt.Errorf("pin %q is 3.3 V, not a GPIO line", pin)
		case power5V:
			return "", fmt.Errorf("pin %q is 5 V, not a GPIO line", pin)
		case ground:
			return "", fmt.Errorf("pin %q is ground, not a GPIO line", pin)
		default:
			return "GPIO" + strconv.Itoa(int(g)), nil
		}
	}
	if n, ok := gpioNumber(upper); ok {
		return "GPIO" + strconv.Itoa(n), nil
	}
	if pin == "" {
		return "", errors.New("no pin is named: give GPIO17, P1-11 or a line's name")
	}
	if _, err := strconv.ParseUint(pin, 10, 32); err == nil && (chip == "" || chip == simChip) {
		return "", fmt.Errorf("pin %q is only a number: write GPIO%s, or P1-%s for that pin of the header, or name the chip too", pin, pin, pin)
	}
	return pin, nil
}

// gpioNumber is 17 for "GPIO17".
func gpioNumber(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, "GPIO")
	if !ok || digits == "" || len(digits) > 4 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil
}

// edgesOf gives any periph pin the richer wait. One that has no timestamps is
// stamped when the edge is noticed, and has no way to count what it lost.
func edgesOf(p periph.PinIO) EdgeWaiter {
	if w, ok := p.(EdgeWaiter); ok {
		return w
	}
	return &plainEdges{pin: p}
}

type plainEdges struct {
	pin periph.PinIO
	seq uint32
}

// plainWait bounds one wait of a plain pin: not every implementation wakes up
// when it is halted.
const plainWait = 100 * time.Millisecond

func (w *plainEdges) WaitEdges(deadline time.Time, buf []Event) (int, error) {
	timeout := plainWait
	if !deadline.IsZero() {
		timeout = min(timeout, max(0, time.Until(deadline)))
	}
	if !w.pin.WaitForEdge(timeout) {
		return 0, os.ErrDeadlineExceeded
	}
	w.seq++
	now := time.Now()
	buf[0] = Event{Rising: bool(w.pin.Read()), Time: now, Clock: now.Sub(processStart), Seq: w.seq}
	return 1, nil
}

// processStart is the zero of Event.Clock where there is no kernel clock.
var processStart = time.Now()
