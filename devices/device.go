// Package devices hosts the hardware: it opens every configured device through
// the driver table, supervises it, publishes its readings as WAMP events,
// offers its procedures, and puts its actuators into their safe state when
// anything ends. The contract for drivers is in device.go, what clients see is
// in docs/drivers.md.
//
// A Host has these goroutines, all of which end before its Run returns:
//
//   - per device a supervisor, which calls the driver's Run again and again
//     and ends when the device is stopped. It keeps a driver that does not
//     return although its context has ended; Run then names it and goes;
//   - per device a publisher, the only one to send the device's events, so
//     that they stay in order. It ends when, after the stop, the queue is
//     empty, or half a second later;
//   - per device with a control section one that watches its controller, and
//     ends before the device is stopped;
//   - one that registers the procedures, and at the end withdraws them.
//
// Procedures run in goroutines of the client's session. A Halt runs in a
// goroutine of its own, because it cannot be ended: nobody waits for longer
// than a second for it. The package never touches hardware and never talks to
// the router but as a WAMP client. It is larger than most: supervision,
// publishing and calls share the state of one device and one mutex.
package devices

import (
	"context"
	"time"

	"github.com/postern-iot/postern/wamp"
)

// Driver is one row of the driver table (devices/all): a type of device. Its
// Params are at once what the config may say, the defaults, and the reference
// page.
type Driver struct {
	// Type is the name in the config, such as "gpio-output".
	Type string
	// Summary is one sentence for lists and the reference page.
	Summary string
	// Doc is Markdown: wiring, limits, the datasheet.
	Doc string
	// Example is a config example, one device in YAML.
	Example string
	// NewParams returns a pointer to the driver's parameter struct, filled with
	// the defaults. Its fields carry the tags that gateway/config reads:
	//   yaml:"name"       the key
	//   doc:"…"           what it means, with its unit
	//   required:"true"   must be given
	// It may implement Validator.
	NewParams func() any
	// Readings and Procedures are those that every device of the type has. A
	// device may have more, from its parameters: see Device.
	Readings   []Reading
	Procedures []Procedure
	// Open makes the device; params is what NewParams returned, filled in. It
	// must not touch hardware that is not there yet: that is Run's first act.
	Open func(env Env, params any) (Device, error)
}

// Validator is implemented by parameter structs with rules beyond their types.
// It reports every error by the field's YAML path ("fields[2].unit", "" for the
// struct itself), what is wrong, and what to do about it.
type Validator interface {
	Validate(report func(path, problem, hint string))
}

// Claimer is implemented by parameter structs of devices that need a piece of
// hardware for themselves; two devices with a claim in common are a config
// error. Claims are like "gpio:GPIO17", "serial:/dev/ttyUSB0".
type Claimer interface {
	Claims() []string
}

// Simulator is implemented by parameter structs: every driver's are, which the
// test of devices/all makes sure of. Simulate turns the parameters into those
// of the same device on hardware that is simulated inside the process, as
// 'postern run --sim' has it: nothing outside is touched by what Open then
// makes. It is called after Validate and Claims, once.
type Simulator interface {
	Simulate()
}

// Sharer is implemented by parameter structs of devices that need a piece of
// hardware together with others: with those that say the same terms, such as a
// line's speed. Another's claim to it is a config error, and so are other
// terms. An empty claim is none.
type Sharer interface {
	Shares() (claim, terms string)
}

// Device is one opened device. The host calls its methods, Run one at a time.
type Device interface {
	// Readings and Procedures describe this device; they do not change.
	Readings() []Reading
	Procedures() []Procedure
	// Run opens the hardware, calls out.Ready, serves it until ctx ends (and
	// then returns nil) or the hardware fails (and then returns why). It may be
	// called again after it returned. A panic in it ends this run only; in a
	// goroutine that it starts nobody can catch one.
	Run(ctx context.Context, out Outlet) error
	// Halt puts the actuators into their safe state and reports whether that
	// was done. It is idempotent, does not depend on Run, and takes no longer
	// than a second. It is called before the first Run, after every Run that
	// failed, and at the end, one at a time, but while Run is still on its way
	// out when that takes too long. It may emit the state that it has set
	// through the Outlet of the last Run. Sensors have nothing to do.
	Halt() error
}

// Preparer is implemented by actuators that do not start in their safe state.
type Preparer interface {
	// Prepare is called in place of the first Halt, before anything is accepted:
	// it puts the actuators into the state that they start with, straight from
	// what the hardware is in, with the bounds of Halt.
	Prepare() error
}

// Env is what a device gets from its host.
type Env struct {
	// Name of the device in the config.
	Name string
	// StateDir is where the gateway keeps its state, "" for nowhere: see
	// StateFile.
	StateDir string
}

// Outlet is how a running device speaks.
type Outlet interface {
	// Ready says that the hardware works; again after Degraded.
	Ready()
	// Degraded says that the hardware is there but not well, and why.
	Degraded(reason error)
	// Emit publishes one value of a reading. It does not block: when the realm
	// is not to be reached the newest value of each reading is kept. A value
	// that is NaN or infinite becomes a fault, never a number, and so does one
	// that is not of the reading's type. The value and s.Extra belong to the
	// host from then on.
	Emit(reading string, value any, s Sample)
	// Fault publishes that a reading has no value now, and why.
	Fault(reading string, reason error)
}

// Sample is what is known of a value beside itself.
type Sample struct {
	// Time of the measurement; zero means now.
	Time time.Time
	// Extra keyword arguments of the event, such as an edge's sequence number;
	// the host's own (unit, time, seq, quality, reason) come before them.
	Extra wamp.Dict
	// Edge is set for the change of a line.
	Edge Edge
}

// Edge is what is known of a line's change beside its level and time. Its event
// has it as the keyword arguments edge_seq, edge_dropped and edge_clock. It
// costs no allocation, as Extra does.
type Edge struct {
	Seq     int64         // counts the line's edges from 1; 0 for none
	Dropped int64         // how many of them were not emitted until now
	Clock   time.Duration // since boot, to be subtracted from another edge's
}

// Reading describes one value that a device measures.
type Reading struct {
	Name string // one URI component: "temperature"
	Doc  string
	Unit string // UCUM where one exists: "Cel", "%", "V"; "" for none
	Type string // "float", "int", "bool", "string", "bytes", "dict"
}

// Procedure describes one thing that a device does, and does it.
type Procedure struct {
	Name string // one URI component, a verb: "set"
	Doc  string
	Args []Arg
	// Returns describes the result, "" for none.
	Returns string
	// Call does it; nil in a Driver's table. It is called while the device is
	// ready or degraded, several at a time if clients do so, and never
	// unchecked: args has one value for each of Args, nil for an optional one
	// that was left out, and kwargs has those that were given, whichever form
	// the caller used; their Go types are int64, float64, bool, string, []byte
	// and map[string]any. ctx ends when the caller gives up and when the device
	// is halted: then return soon. A *wamp.Error reaches the caller as it is.
	Call func(ctx context.Context, args wamp.List, kwargs wamp.Dict) (any, error)
}

// Arg is one argument of a procedure: positional, or by keyword.
type Arg struct {
	Name     string
	Type     string // as in Reading
	Doc      string
	Optional bool
}

// Every calls f at once and then every interval, which is a millisecond or
// more, until ctx ends. Calls that f is late for are left out.
func Every(ctx context.Context, interval time.Duration, f func(now time.Time)) {
	f(time.Now())
	tick := time.NewTicker(max(interval, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			f(now)
		case <-ctx.Done():
			return
		}
	}
}
