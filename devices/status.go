package devices

import (
	"time"

	"github.com/postern-iot/postern/wamp"
)

// State is where a device is in its life:
//
//	configured -> opening -> ready <-> degraded
//	                 ^          |
//	                 +- back-off <- any failure
//
// and stopped when the host has put it into its safe state for good.
type State string

// The states of a device.
const (
	StateConfigured State = "configured"
	StateOpening    State = "opening"
	StateReady      State = "ready"
	StateDegraded   State = "degraded"
	StateBackOff    State = "back-off"
	StateStopped    State = "stopped"
)

// Up reports whether a device in this state measures and takes calls.
func (s State) Up() bool { return s == StateReady || s == StateDegraded }

// Quality says how far a value can be trusted.
type Quality string

// The qualities of a value.
const (
	QualityGood      Quality = "good"      // measured, and the device is well
	QualityUncertain Quality = "uncertain" // measured, but the device is degraded or down
	QualityBad       Quality = "bad"       // there is no value; the reason says why
)

// Status is a device's state and what it has done since the host was made.
type Status struct {
	Device string
	Type   string
	State  State
	Since  time.Time
	// Reason says why the state is not ready.
	Reason string
	// Attempts counts the openings since the device last was stable.
	Attempts int
	// Panics counts those of the driver's Run, Halt and procedures.
	Panics int64
	// Published counts the values that the session took, Dropped those that
	// did not fit into the queue or could not be sent, Coalesced those that a
	// newer one replaced while the realm was not to be reached, and Faults
	// those that were no value but the reason why there is none.
	Published, Dropped, Coalesced, Faults int64
	// Filtered counts the values that were measured and, by their reading's
	// deadband or periods, not published.
	Filtered int64
	// Alarms are those that are raised.
	Alarms []Alarm
	// Queued is the number of values that wait to be published.
	Queued int
}

func (s Status) dict() wamp.Dict {
	return wamp.Dict{
		"name": s.Device, "type": s.Type,
		"state": string(s.State), "since": stamp(s.Since), "reason": s.Reason,
		"attempts": int64(s.Attempts), "panics": s.Panics,
		"published": s.Published, "dropped": s.Dropped, "coalesced": s.Coalesced,
		"faults": s.Faults, "filtered": s.Filtered, "queued": int64(s.Queued),
		"alarms": alarmList(s.Alarms),
	}
}

// timeLayout is RFC 3339 in UTC with microseconds, always of the same width:
// every client can read and sort it as text, and no codec rounds it.
const timeLayout = "2006-01-02T15:04:05.000000Z"

func stamp(t time.Time) string { return t.UTC().Format(timeLayout) }
