package wamp

import (
	"fmt"
	"strings"
)

// Error URIs of the basic and advanced profiles ("Error Handling",
// "Predefined URIs").
const (
	ErrInvalidURI              = "wamp.error.invalid_uri"
	ErrNoSuchProcedure         = "wamp.error.no_such_procedure"
	ErrProcedureAlreadyExists  = "wamp.error.procedure_already_exists"
	ErrNoSuchRegistration      = "wamp.error.no_such_registration"
	ErrNoSuchSubscription      = "wamp.error.no_such_subscription"
	ErrNoSuchSession           = "wamp.error.no_such_session"
	ErrInvalidArgument         = "wamp.error.invalid_argument"
	ErrProtocolViolation       = "wamp.error.protocol_violation"
	ErrNotAuthorized           = "wamp.error.not_authorized"
	ErrAuthorizationFailed     = "wamp.error.authorization_failed"
	ErrAuthorizationDenied     = "wamp.error.authorization_denied"
	ErrAuthenticationFailed    = "wamp.error.authentication_failed"
	ErrAuthenticationDenied    = "wamp.error.authentication_denied"
	ErrAuthenticationRequired  = "wamp.error.authentication_required"
	ErrNoMatchingAuthMethod    = "wamp.error.no_matching_auth_method"
	ErrNoSuchRealm             = "wamp.error.no_such_realm"
	ErrNoSuchRole              = "wamp.error.no_such_role"
	ErrNoSuchPrincipal         = "wamp.error.no_such_principal"
	ErrCanceled                = "wamp.error.canceled"
	ErrTimeout                 = "wamp.error.timeout"
	ErrUnavailable             = "wamp.error.unavailable"
	ErrNoAvailableCallee       = "wamp.error.no_available_callee"
	ErrFeatureNotSupported     = "wamp.error.feature_not_supported"
	ErrOptionNotAllowed        = "wamp.error.option_not_allowed"
	ErrDiscloseMeDisallowed    = "wamp.error.option_disallowed.disclose_me"
	ErrNetworkFailure          = "wamp.error.network_failure"
	ErrPayloadSizeExceeded     = "wamp.error.payload_size_exceeded"
	ErrRuntimeError            = "wamp.error.runtime_error"
	CloseGoodbyeAndOut         = "wamp.close.goodbye_and_out"
	CloseNormal                = "wamp.close.normal"
	CloseRealm                 = "wamp.close.close_realm"
	CloseSystemShutdown        = "wamp.close.system_shutdown"
	CloseKilled                = "wamp.close.killed"
	CloseGoodbyeAndOutAutobahn = "wamp.error.goodbye_and_out" // what autobahn-js answers
)

// Error is the only error that reaches the wire: an error URI with arguments.
// A procedure that fails with any other error answers ErrRuntimeError without
// its text, so that internals do not leak.
type Error struct {
	URI    string
	Args   List
	KwArgs Dict
}

// Errorf makes an Error whose single argument is the formatted text, the form
// in which WAMP clients show errors to people.
func Errorf(uri, format string, a ...any) *Error {
	return &Error{URI: uri, Args: List{fmt.Sprintf(format, a...)}}
}

// Error joins the URI and the textual arguments.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.URI)
	for i, a := range e.Args {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, a)
	}
	return b.String()
}
