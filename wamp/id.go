package wamp

// ID identifies sessions, publications, subscriptions, registrations and
// requests. Valid IDs lie in [1, 2^53] (basic profile, "Identifiers"), so that
// every client language, JavaScript included, can hold them exactly.
type ID uint64

// MaxID is the largest valid ID, 2^53.
const MaxID ID = 1 << 53

// Valid reports whether id lies in [1, MaxID].
func (id ID) Valid() bool { return id >= 1 && id <= MaxID }
