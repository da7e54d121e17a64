package serial

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/devices"
)

func frameParams(change func(*FrameParams)) *FrameParams {
	p := newFrameParams()
	p.Port = "/dev/ttyS0"
	change(p)
	for i := range p.Fields {
		f := &p.Fields[i]
		if f.Type == "" {
			f.Type = "u8"
		}
		if f.Endian == "" {
			f.Endian = "big"
		}
		if f.Scale == 0 {
			f.Scale = 1
		}
	}
	return p
}

func framingCases() map[string]*FrameParams {
	crc := FrameCheck{Kind: "crc-16-modbus", Endian: "little"}
	return map[string]*FrameParams{
		"fixed": frameParams(func(p *FrameParams) { p.Framing, p.Start, p.Size, p.Check = framingFixed, []byte{0xAA}, 8, crc }),
		"length": frameParams(func(p *FrameParams) {
			p.Framing, p.Start, p.Length, p.Check = framingLength, []byte{0xAA, 0x55}, &FrameLength{At: 2, Type: "u16", Endian: "little", Add: 6}, crc
		}),
		"delimited": frameParams(func(p *FrameParams) {
			p.Start, p.End, p.Check = []byte{2}, []byte{3, 4}, FrameCheck{Kind: "xor-8", Endian: "big", From: 1}
		}),
		"slip": frameParams(func(p *FrameParams) { p.Framing, p.Check = framingSLIP, crc }),
		"cobs": frameParams(func(p *FrameParams) { p.Framing, p.Check = framingCOBS, FrameCheck{Kind: "crc-32", Endian: "big"} }),
	}
}

// cut is what a framing makes of a stream in chunks of n bytes.
func cut(p *FrameParams, stream []byte, n int) (all [][]byte, bad int) {
	f := p.framing()
	for chunk := range slices.Chunk(stream, n) {
		f.feed(bytes.Clone(chunk), func(b []byte) { all = append(all, bytes.Clone(b)) }, func(error) { bad++ })
	}
	return all, bad
}

func TestFramings(t *testing.T) {
	for name, p := range framingCases() {
		var problems []string
		p.Validate(func(path, problem, _ string) { problems = append(problems, path+" "+problem) })
		if problems != nil {
			t.Errorf("%s: %v", name, problems)
		}
		one, two := p.wrap([]byte{0, 0xC0, 0xDB, 0xAA, 7}), p.wrap([]byte{1, 2, 0, 0, 0})
		broken := bytes.Clone(one)
		broken[len(broken)/2] ^= 0x20
		stream := slices.Concat(one, two, broken, one[:len(one)-3], two, []byte{9, 9, 9}, one, two)
		want := 4
		if p.Framing == framingCOBS { // what has lost its zero takes the next one with it
			want = 3
		}
		for n := 1; n <= len(stream); n++ {
			all, bad := cut(p, stream, n)
			if len(all) < want || bad < 1 {
				t.Errorf("%s by %d: %d frames, %d bad", name, n, len(all), bad)
			}
			for _, f := range all {
				if !bytes.Contains(f, []byte{0, 0xC0, 0xDB, 0xAA, 7}) && !bytes.Contains(f, []byte{1, 2, 0, 0, 0}) {
					t.Errorf("%s by %d: % X", name, n, f)
				}
			}
		}
	}
	// RFC 1055, and the table of examples of Cheshire and Baker's COBS.
	if have := fmt.Sprintf("% X", slip([]byte{1, 0xC0, 0xDB})); have != "C0 01 DB DC DB DD C0" {
		t.Error(have)
	}
	for plain, want := range map[string]string{
		"\x00": "01 01 00", "\x00\x00": "01 01 01 00", "\x11\x22\x00\x33": "03 11 22 02 33 00", "\x11\x22\x33\x44": "05 11 22 33 44 00", "\x11\x00\x00\x00": "02 11 01 01 01 00",
	} {
		if have := fmt.Sprintf("% X", cobs([]byte(plain))); have != want {
			t.Errorf("%q: %s", plain, have)
		}
	}
}

func TestFrameFields(t *testing.T) {
	three := 3
	p := frameParams(func(p *FrameParams) {
		p.Fields = []FrameField{
			{Name: "a", At: 1, Type: "i16"},
			{Name: "b", At: 1, Type: "u16", Endian: "little", Scale: 0.5, Offset: 1},
			{Name: "c", At: 1, Type: "u24"},
			{Name: "d", At: 0, Bit: &three},
			{Name: "e", At: 3, Type: "f32"},
			{Name: "f", At: 7, Type: typeText, Size: 4},
			{Name: "g", At: 7, Type: typeBytes, Size: 2},
			{Name: "h", At: 0, When: &FrameWhen{At: 0, Value: 9}},
			{Name: "i", At: 3, Type: "i32", Scale: 2},
		}
	})
	values, err := p.parse([]byte("\x08\xFF\xFE\x42\xF6\xE9\x79ab \x00"))
	if have := fmt.Sprint(values); err != nil || have != "[-2 32640.5 16776770 true 123.45600128173828 ab [97 98] <nil> 2.246955762e+09]" {
		t.Errorf("%s, %v", have, err)
	}
	if _, err := p.parse([]byte{9, 1}); err == nil || !strings.Contains(err.Error(), "2 bytes only") {
		t.Errorf("short: %v", err)
	}
	if v := p.Fields[4].value([]byte{0x7F, 0xC0, 0, 0}); v != errNotFinite {
		t.Errorf("NaN: %v", v)
	}
}

func TestSimulatedFrames(t *testing.T) {
	for name, p := range framingCases() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p.Fields = []FrameField{{Name: "a", At: 4, Type: "u8", Endian: "big", Scale: 1}}
				p.Simulate()
				dev, err := Frames().Open(devices.Env{}, p)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := contextOf(t)
				o, result := newOutlet(), make(chan error, 1)
				go func() { result <- dev.Run(ctx, o) }()
				time.Sleep(2500 * time.Millisecond)
				if have := o.take(); have != "ready a=10 a=11 a=12" {
					t.Errorf("%s", have)
				}
				if v, err := call(t, dev, "transact", []byte{1, 2, 3}); err != nil || len(v.([]byte)) < 5 {
					t.Errorf("transact: %v, %v", v, err)
				}
				cancel()
				if err := <-result; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestFrameValidate(t *testing.T) {
	for want, change := range map[string]func(*FrameParams){
		"start end": func(*FrameParams) {},
		"framing check.endian check.kind check.from max_frame": func(p *FrameParams) {
			p.Start, p.Framing, p.Check, p.MaxFrame = []byte{1}, "x", FrameCheck{Kind: "crc", From: -1}, 0
		},
		"size":   func(p *FrameParams) { p.Framing, p.Start, p.Size = framingFixed, []byte{1}, 1000 },
		"length": func(p *FrameParams) { p.Framing, p.Start = framingLength, []byte{1} },
		"length.at": func(p *FrameParams) {
			p.Framing, p.Start, p.Length = framingLength, []byte{1}, &FrameLength{Type: "u8", Endian: "big"}
		},
		"fields[0].size fields[1].bit fields[2].name fields[2].at fields[3].type": func(p *FrameParams) {
			p.Framing = framingSLIP
			p.Fields = []FrameField{{Name: "a", Type: typeText}, {Name: "b", Type: "u8", Bit: ptr(8)}, {Name: "b", At: 256}, {Name: "c", Type: "u12"}}
		},
	} {
		p := frameParams(change)
		var all []string
		p.Validate(func(path, _, _ string) { all = append(all, path) })
		if have := strings.Join(all, " "); have != want {
			t.Errorf("have %s, want %s", have, want)
		}
	}
}

func FuzzFraming(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 0xC0}, []byte{0xAA, 0x55, 2, 3}, uint8(2), uint8(3))
	f.Add(bytes.Repeat([]byte{7}, 300), []byte{0}, uint8(4), uint8(50))
	names := []string{"fixed", "length", "delimited", "slip", "cobs"}
	f.Fuzz(func(t *testing.T, data, noise []byte, which, n uint8) {
		p := framingCases()[names[int(which)%len(names)]]
		cut(p, noise, int(n)+1)
		if len(data) == 0 || len(data) > 200 {
			return
		}
		escaped := slip(data)
		if have, err := unslip(escaped[1 : len(escaped)-1]); err != nil || !bytes.Equal(have, data) {
			t.Errorf("slip: % X becomes % X, %v", data, have, err)
		}
		encoded := cobs(data)
		if have, err := uncobs(encoded[:len(encoded)-1]); err != nil || !bytes.Equal(have, data) || bytes.IndexByte(encoded, 0) != len(encoded)-1 {
			t.Errorf("cobs: % X becomes % X, %v", data, have, err)
		}
		if p.Framing == framingFixed || p.Framing == framingDelimited { // data may hold their end, or not fit
			return
		}
		if all, bad := cut(p, p.wrap(data), int(n)+1); len(all) != 1 || bad != 0 || !bytes.Contains(all[0], data[min(2, len(data)):]) {
			t.Errorf("%s: % X becomes % X, %d bad", p.Framing, data, all, bad)
		}
	})
}

// A simulated device that talks takes its safe state all the same.
func TestSafeStateOfSimulatedFrames(t *testing.T) {
	p := framingCases()["slip"]
	p.Port, p.Safe = simPort, []byte{1, 0}
	dev, ok := newFrames(p, func() (port, error) { return p.Line.open(talker(p.simulate)) }).guard().(devices.Releaser)
	if !ok {
		t.Fatal("it is no actuator")
	}
	for range 3 {
		if err := dev.Release(); err != nil {
			t.Error(err)
		}
	}
}
