package sparkplug

import (
	"encoding/json"
	"fmt"
)

// Host is what is known of the primary host application.
type Host struct {
	Online bool
	heard  bool
	last   int64 // timestamp of the STATE that counts
}

// StateTopic is where a host application says whether it is online, retained.
func StateTopic(host string) string { return Namespace + "/STATE/" + host }

// Hear takes a STATE message. One that is older than that before is left out
// (tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp,
// tck-id-operational-behavior-edge-node-termination-host-offline-timestamp).
func (h *Host) Hear(payload []byte) error {
	var state struct {
		Online    *bool  `json:"online"`
		Timestamp *int64 `json:"timestamp"`
	}
	if len(payload) > 4096 {
		return fmt.Errorf("a STATE of %d bytes", len(payload))
	}
	if err := json.Unmarshal(payload, &state); err != nil {
		return fmt.Errorf("the STATE is not JSON with online and timestamp: %w", err)
	}
	if state.Online == nil || state.Timestamp == nil {
		return fmt.Errorf("the STATE has no online or no timestamp")
	}
	if h.heard && *state.Timestamp < h.last {
		return nil
	}
	h.heard, h.last, h.Online = true, *state.Timestamp, *state.Online
	return nil
}
