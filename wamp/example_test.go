package wamp_test

import (
	"fmt"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

func ExampleMatch_Matches() {
	fmt.Println(wamp.MatchPrefix.Matches("com.example.", "com.example.boiler.temperature"))
	fmt.Println(wamp.MatchWildcard.Matches("com.example..temperature", "com.example.boiler.temperature"))
	fmt.Println(wamp.MatchWildcard.Matches("com.example..temperature", "com.example.boiler.pump.temperature"))
	// Output:
	// true
	// true
	// false
}

func ExampleNewPayload() {
	p, err := wamp.NewPayload(codec.JSON, wamp.List{21.5}, wamp.Dict{"unit": "degC"})
	fmt.Printf("%s %s %v\n", p.Args, p.KwArgs, err)
	args, kwargs, err := p.Values()
	fmt.Println(args, kwargs, err)
	// Output:
	// [21.5] {"unit":"degC"} <nil>
	// [21.5] map[unit:degC] <nil>
}
