package client

import (
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// Values are decoded arguments: of a result, an event, an invocation. The
// getters read a positional argument as one type. Their errors are
// *wamp.Error with wamp.error.invalid_argument and say which argument is wrong
// and what it is, so that a procedure can return them to its caller as they are.
type Values struct {
	Args   wamp.List
	KwArgs wamp.Dict
}

// Int is argument i as an integer. A float without a fraction is one, because
// JSON peers do not tell them apart.
func (v Values) Int(i int) (int64, error) {
	n, ok := wamp.ToInt(v.at(i))
	return n, v.check(i, ok, "an integer")
}

// Float is argument i as a number; integers are numbers.
func (v Values) Float(i int) (float64, error) {
	n, ok := wamp.ToFloat(v.at(i))
	return n, v.check(i, ok, "a number")
}

// Text is argument i as a string.
func (v Values) Text(i int) (string, error) {
	s, ok := v.at(i).(string)
	return s, v.check(i, ok, "a string")
}

// Bool is argument i as a boolean.
func (v Values) Bool(i int) (bool, error) {
	b, ok := v.at(i).(bool)
	return b, v.check(i, ok, "a boolean")
}

// Bytes is argument i as binary data.
func (v Values) Bytes(i int) ([]byte, error) {
	b, ok := v.at(i).([]byte)
	return b, v.check(i, ok, "binary data")
}

func (v Values) at(i int) any {
	if i < 0 || i >= len(v.Args) {
		return nil
	}
	return v.Args[i]
}

func (v Values) check(i int, ok bool, want string) error {
	switch {
	case ok:
		return nil
	case i < 0 || i >= len(v.Args):
		return wamp.Errorf(wamp.ErrInvalidArgument, "argument %d is missing: want %s, have %d arguments", i, want, len(v.Args))
	}
	return wamp.Errorf(wamp.ErrInvalidArgument, "argument %d: want %s, have %s", i, want, describe(v.Args[i]))
}

// describe names a canonical value's type, with the value where it is short.
func describe(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprintf("the boolean %t", x)
	case int64, uint64, int:
		return fmt.Sprintf("the integer %d", x)
	case float64:
		return fmt.Sprintf("the number %g", x)
	case string:
		if len(x) > 32 {
			return fmt.Sprintf("a string of %d bytes", len(x))
		}
		return fmt.Sprintf("the string %q", x)
	case []byte:
		return fmt.Sprintf("binary data of %d bytes", len(x))
	case wamp.List:
		return fmt.Sprintf("a list of %d", len(x))
	case wamp.Dict:
		return fmt.Sprintf("a dictionary of %d", len(x))
	}
	return fmt.Sprintf("a %T", v)
}
