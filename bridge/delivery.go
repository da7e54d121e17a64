package bridge

import (
	"fmt"
	"time"
)

// Delivery is how a map's messages wait and are sent.
type Delivery struct {
	Durable  bool       `yaml:"durable" doc:"Has messages of QoS 1 and 2 for the broker written to the disk before they are sent, so that they survive the end of the gateway's process at any moment. Without it they go to the disk only while the broker is away or slow. It needs a state_dir."`
	Priority int        `yaml:"priority" min:"-9" max:"9" doc:"Which messages give way when the queue is full: those of maps with the lowest priority first."`
	Share    float64    `yaml:"share" min:"0" max:"1" doc:"Most of the queue that the map may take, as a part of max_messages and max_bytes; 0 for all."`
	Rate     RateConfig `yaml:"rate" doc:"How many messages a second may cross."`
}

// RateConfig bounds a rate.
type RateConfig struct {
	PerSecond float64 `yaml:"per_s" min:"0" max:"1000000" doc:"Messages a second, on average; 0 for any number."`
	Burst     int     `yaml:"burst" min:"0" max:"1000000" doc:"How many may come at once; 0 for as many as in a second."`
	Over      string  `yaml:"over" enum:"wait,drop_oldest,drop_newest" doc:"What happens to more towards MQTT: it waits in the queue; of what waits only the newest burst is kept; or it is dropped. Towards WAMP it is dropped in any case: it cannot wait without delaying other maps."`
}

// What happens to messages over a map's rate.
const (
	OverWait       = "wait"
	OverDropOldest = "drop_oldest"
	OverDropNewest = "drop_newest"
)

// QueueConfig bounds what waits for a broker.
type QueueConfig struct {
	MaxMessages int           `yaml:"max_messages" min:"1" doc:"Most messages."`
	MaxBytes    int           `yaml:"max_bytes" unit:"bytes" min:"1KiB" doc:"Most bytes, topics and payloads together."`
	MaxAge      time.Duration `yaml:"max_age" doc:"How long a message may wait; 0 for any time."`
	Memory      int           `yaml:"memory" unit:"bytes" min:"1KiB" doc:"Most of these bytes that wait in memory: all of them without a state_dir, and what waits while the disk is full."`
	WhenFull    string        `yaml:"when_full" enum:"drop_oldest,drop_newest" doc:"Which message gives way when one more does not fit, in the map that has most waiting of those with the lowest priority; those on their way are never dropped."`

	DrainPerSecond int         `yaml:"drain_per_s" min:"0" doc:"How many of the messages that waited for the broker's return are sent in a second, besides new ones of other maps; 0 for as many as the broker takes."`
	Fsync          FsyncConfig `yaml:"fsync" doc:"When the disk is told to keep what is written: a power cut loses no more than that."`
}

// FsyncConfig is the group commit.
type FsyncConfig struct {
	Every    time.Duration `yaml:"every" min:"1ms" max:"1m" doc:"At the latest so long after a message was written."`
	Messages int           `yaml:"messages" min:"1" doc:"At the latest after so many messages."`
}

// The queue's policies.
const (
	DropOldest = "drop_oldest"
	DropNewest = "drop_newest"
)

// DefaultQueue holds some hours of a busy site's readings.
func DefaultQueue() QueueConfig {
	return QueueConfig{
		MaxMessages: 200_000, MaxBytes: 64 << 20, MaxAge: 7 * 24 * time.Hour, Memory: 16 << 20, WhenFull: DropOldest,
		Fsync: FsyncConfig{Every: 20 * time.Millisecond, Messages: 256},
	}
}

// SetDefaults fills in what the file need not say.
func (d *Delivery) SetDefaults() { d.Rate.Over = orElse(d.Rate.Over, OverWait) }

func (d *Delivery) validate(m *Map, report func(key, problem, hint string)) {
	if d.Durable && m.Direction == In {
		report("durable", "has no effect inwards", "a message from MQTT stays with the broker until the realm has taken it; remove the key")
	}
	if d.Durable && m.QoS == 0 {
		report("durable", "has no effect at QoS 0", "write qos: 1")
	}
	if d.Rate.PerSecond == 0 && d.Rate.Burst > 0 {
		report("rate.burst", "has no effect without per_s", fmt.Sprintf("write rate: {per_s: %d, burst: %[1]d}", d.Rate.Burst))
	}
}
