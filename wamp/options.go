package wamp

// The options and details of the frequent messages have a field for every key
// of the basic and advanced profiles, so that reading or writing one costs no
// map. The zero value of a field means that the key is absent. Keys that the
// specification does not name are kept in Extra when they start with "x_" or
// "_" (the form it reserves for implementations and applications) and are
// ignored otherwise.

// Match is a pattern's matching policy (advanced profile, "Pattern-based
// Subscriptions"). The zero value is an exact match.
type Match string

// The matching policies.
const (
	MatchExact    Match = "exact"
	MatchPrefix   Match = "prefix"
	MatchWildcard Match = "wildcard"
)

// Normal returns MatchExact for the zero value and m otherwise.
func (m Match) Normal() Match {
	if m == "" {
		return MatchExact
	}
	return m
}

// Passthru marks a payload that the router must carry without looking at it
// (advanced profile, "Payload Passthru Mode").
type Passthru struct {
	Scheme     string // ppt_scheme
	Serializer string // ppt_serializer
	Cipher     string // ppt_cipher
	KeyID      string // ppt_keyid
}

type (
	// PublishOptions are the options of PUBLISH. The lists tell absent (nil)
	// from empty: an empty Eligible list addresses nobody.
	PublishOptions struct {
		Acknowledge      bool
		ExcludeMe        *bool // nil means true
		DiscloseMe       bool
		Exclude          []ID
		ExcludeAuthID    []string
		ExcludeAuthRole  []string
		Eligible         []ID
		EligibleAuthID   []string
		EligibleAuthRole []string
		Retain           bool
		RKey             string
		PPT              Passthru
		Extra            Dict
	}
	// SubscribeOptions are the options of SUBSCRIBE.
	SubscribeOptions struct {
		Match       Match
		GetRetained bool
		NKey        string
		Extra       Dict
	}
	// EventDetails are the details of EVENT.
	EventDetails struct {
		Publisher         ID
		PublisherAuthID   string
		PublisherAuthRole string
		Topic             string
		TrustLevel        *int64
		Retained          bool
		PPT               Passthru
		Extra             Dict
	}
	// CallOptions are the options of CALL.
	CallOptions struct {
		Timeout         uint64 // milliseconds; 0 means none
		ReceiveProgress bool
		Progress        bool
		DiscloseMe      bool
		RunMode         string
		RKey            string
		PPT             Passthru
		Extra           Dict
	}
	// CancelOptions are the options of CANCEL. Mode is "skip", "kill" or
	// "killnowait".
	CancelOptions struct {
		Mode  string
		Extra Dict
	}
	// ResultDetails are the details of RESULT.
	ResultDetails struct {
		Progress       bool
		Callee         ID
		CalleeAuthID   string
		CalleeAuthRole string
		PPT            Passthru
		Extra          Dict
	}
	// RegisterOptions are the options of REGISTER. Invoke is "single",
	// "roundrobin", "random", "first" or "last".
	RegisterOptions struct {
		Match           Match
		Invoke          string
		Concurrency     uint64
		DiscloseCaller  bool
		ForceReregister bool
		ForwardTimeout  bool
		NKey            string
		Extra           Dict
	}
	// InvocationDetails are the details of INVOCATION.
	InvocationDetails struct {
		Caller          ID
		CallerAuthID    string
		CallerAuthRole  string
		Procedure       string
		TrustLevel      *int64
		Timeout         uint64 // milliseconds; 0 means none
		ReceiveProgress bool
		Progress        bool
		RKey            string
		PPT             Passthru
		Extra           Dict
	}
	// InterruptOptions are the options of INTERRUPT.
	InterruptOptions struct {
		Mode   string
		Reason string
		Extra  Dict
	}
	// YieldOptions are the options of YIELD.
	YieldOptions struct {
		Progress bool
		PPT      Passthru
		Extra    Dict
	}
	// ErrorDetails are the details of ERROR.
	ErrorDetails struct {
		PPT   Passthru
		Extra Dict
	}
	// RevokedDetails say which subscription or registration the router took
	// away, and why.
	RevokedDetails struct {
		Subscription ID
		Registration ID
		Reason       string
		Extra        Dict
	}
)
