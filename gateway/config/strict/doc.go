// Package strict decodes one YAML file into Go structs and says everything
// that is wrong with it at once: each problem with its file, line and column,
// the offending line, and what to do about it. It knows nothing of what the
// structs mean.
//
// The structs describe themselves through tags:
//
//	yaml:"name"      the key; ",inline" takes a struct's keys into its owner's;
//	                 "-" leaves the field out
//	doc:"…"          what it means, its unit
//	required:"true"  the key must be given
//	secret:"true"    the value may be "!file path", and is never shown
//	unit:"bytes"     the number may be written as 64KiB, 4MiB, 1GiB
//	enum:"a,b,c"     the values allowed
//	min:"1" max:"9"  the range allowed, of numbers, durations and sizes
//	single:"true"    a list may be given as its only element
//	short:"true"     the owner may be given as a lone value, this field's
//	expand:"true"    {name} is replaced, as Options.Expand says
//	example:"…"      a value to show in hints and in the reference
//
// Defaults are what the structs hold before decoding; elements of lists get
// theirs from a SetDefaults method, when they have one. Rules beyond types
// are checked by Validate methods (see Validator).
//
// What a file may cost is bounded: its bytes, its nesting, and the values it
// amounts to once aliases are followed. The package has no goroutines and no
// state. It reads no file but the one it is asked to, and those that secrets
// name.
package strict
