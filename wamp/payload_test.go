package wamp_test

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

func TestPayload(t *testing.T) {
	for _, c := range codec.All() {
		for _, test := range []struct {
			args       wamp.List
			kwargs     wamp.Dict
			wantArgs   wamp.List
			wantKwArgs wamp.Dict
		}{
			{nil, nil, nil, nil},
			{wamp.List{}, wamp.Dict{}, nil, nil},
			{wamp.List{int64(1)}, nil, wamp.List{int64(1)}, nil},
			{wamp.List{int64(1)}, wamp.Dict{}, wamp.List{int64(1)}, nil},
			{nil, wamp.Dict{"a": "b"}, wamp.List{}, wamp.Dict{"a": "b"}},
			{wamp.List{nil}, wamp.Dict{"a": nil}, wamp.List{nil}, wamp.Dict{"a": nil}},
		} {
			p, err := wamp.NewPayload(c, test.args, test.kwargs)
			if err != nil {
				t.Fatal(err)
			}
			args, kwargs, err := p.Values()
			if err != nil || !reflect.DeepEqual(args, test.wantArgs) || !reflect.DeepEqual(kwargs, test.wantKwArgs) {
				t.Errorf("%s %v %v: have %#v %#v, %v", c.Name(), test.args, test.kwargs, args, kwargs, err)
			}
			if (p.Enc == nil) != (p.Size() == 0) {
				t.Errorf("%s %v %v: serialization %v, %d bytes", c.Name(), test.args, test.kwargs, p.Enc, p.Size())
			}
		}
	}
}

func TestPayloadErrors(t *testing.T) {
	if _, err := wamp.NewPayload(codec.JSON, wamp.List{math.NaN()}, nil); err == nil || !strings.Contains(err.Error(), "encode arguments as json") {
		t.Errorf("have %v", err)
	}
	if _, err := wamp.NewPayload(codec.JSON, nil, wamp.Dict{"a": make(chan int)}); err == nil || !strings.Contains(err.Error(), "encode keyword arguments as json") {
		t.Errorf("have %v", err)
	}
	for want, p := range map[string]wamp.Payload{
		"arguments: json at byte 1":               {Enc: codec.JSON, Args: []byte("[")},
		"arguments: want a list":                  {Enc: codec.JSON, Args: []byte("{}")},
		"keyword arguments: json at byte 0":       {Enc: codec.JSON, Args: []byte("[]"), KwArgs: []byte("")},
		"keyword arguments: want a dictionary":    {Enc: codec.JSON, KwArgs: []byte("[]")},
		"payload: its serialization is not known": {Args: []byte("[]")},
	} {
		if _, _, err := p.Values(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("have %v, want %q", err, want)
		}
	}
}
