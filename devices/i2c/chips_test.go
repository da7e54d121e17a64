package i2c

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c/i2ctest"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/gpio"
)

func TestTable(t *testing.T) {
	if _, err := devices.NewTable(Drivers(gpio.NewChips())...); err != nil {
		t.Error(err)
	}
}

// The values are those of the data sheets' examples: BST-BMP280-DS001 3.12
// (25.08 °C, 100653.27 Pa), SBOS448G 9.2.2.1 (11.98 V, 10 A, 119.8 W, 20 mV).
func TestModels(t *testing.T) {
	for _, c := range []struct {
		typ, want string
		change    func(any)
	}{
		{"bme280", "ready temperature=25.08 pressure=100653.27 humidity=", func(p any) { p.(*BME280Params).Bus = simBus }},
		{"bmp280", "ready temperature=25.08 pressure=100653.27", func(p any) { b := p.(*BME280Params); b.Bus, b.Oversampling = simBus, 16 }},
		{"sht3x", "ready temperature=25 humidity=45", func(p any) { p.(*SHT3xParams).Bus = simBus }},
		{"mcp9808", "ready temperature=25", func(p any) { p.(*MCP9808Params).Bus = simBus }},
		{"bh1750", "ready illuminance=320", func(p any) { p.(*BH1750Params).Bus = simBus }},
		{"ads1115", "ready a=1.024 b=12.8", func(p any) {
			a := p.(*ADS1115Params)
			a.Bus = simBus
			a.Channels = []ADS1115Channel{{Name: "a", Input: "a0", Range: 4.096, Scale: 1}, {Name: "b", Input: "a2-a3", Range: 0.256, Scale: 200}}
		}},
		{"ina219", "ready voltage=11.98 current=10 power=119.8 shunt_voltage=0.02", func(p any) {
			i := p.(*INA219Params)
			i.Bus, i.Shunt, i.MaxCurrent = simBus, 0.002, 32.768
		}},
	} {
		t.Run(c.typ, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, simBench(t).open(c.typ, c.change))
				time.Sleep(time.Second)
				if have := r.take(); !strings.HasPrefix(have, c.want) {
					t.Errorf("have %q\nwant %q", have, c.want)
				}
				time.Sleep(10 * time.Second)
				if have, want := r.take(), strings.TrimPrefix(c.want, "ready "); !strings.HasPrefix(have, want) {
					t.Errorf("again: have %q\nwant %q", have, want)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// BST-BMP280-DS001 3.12, the worked example of both formulas.
func TestBoschFormulas(t *testing.T) {
	c := boschCalibration{
		t1: 27504, t2: 26435, t3: -1000,
		p1: 36477, p2: -10685, p3: 3024, p4: 2855, p5: 140, p6: -7, p7: 15500, p8: -14600, p9: 6000,
	}
	celsius, fine := c.temperature(519888)
	if math.Abs(celsius-25.08) > 0.005 || math.Abs(fine-128422) > 0.5 {
		t.Errorf("have %v °C and t_fine %v", celsius, fine)
	}
	if pascal := c.pressure(415148, fine); math.Abs(pascal-100653.27) > 0.005 {
		t.Errorf("have %v Pa", pascal)
	}
}

// boschInteger is the data sheet's other formula of the humidity, DS002 4.2.3,
// in integers: an independent way to the same value.
func boschInteger(c *boschCalibration, raw, fine int32) float64 {
	v := fine - 76800
	v = (((raw<<14 - int32(c.h4)<<20 - int32(c.h5)*v) + 16384) >> 15) *
		(((((((v*int32(c.h6))>>10)*(((v*int32(c.h3))>>11)+32768))>>10)+2097152)*int32(c.h2) + 8192) >> 14)
	v -= ((((v >> 15) * (v >> 15)) >> 7) * int32(c.h1)) >> 4
	return float64(min(max(v, 0), 419430400)>>12) / 1024
}

func TestBoschHumidity(t *testing.T) {
	m := newBoschModel(true).(*byteChip)
	c := parseBosch(m.mem[0x88:0xA2], m.mem[0xE1:0xE8])
	if c.h1 != 75 || c.h2 != 362 || c.h3 != 0 || c.h4 != 313 || c.h5 != 50 || c.h6 != 30 {
		t.Errorf("have %+v", c)
	}
	for _, h := range []boschCalibration{c, {h1: 75, h2: 355, h3: 12, h4: 340, h5: -7, h6: -3}} {
		for raw := int32(20_000); raw < 45_000; raw += 500 {
			for _, fine := range []int32{0, 76_800, 128_422, 200_000} {
				have, want := h.humidity(raw, float64(fine)), boschInteger(&h, raw, fine)
				if math.Abs(have-want) > 0.1 {
					t.Fatalf("raw %d at %d: have %v, want %v", raw, fine, have, want)
				}
			}
		}
	}
	// H4 and H5 share a byte and are signed.
	if c := parseBosch(make([]byte, 26), []byte{0, 0, 0, 0xFF, 0x2E, 0xFE, 0x80}); c.h4 != -2 || c.h5 != -30 || c.h6 != -128 {
		t.Errorf("have %+v", c)
	}
}

// Sensirion SHT3x-DIS 4.12: CRC(0xBEEF) = 0x92.
func TestSHT3xChecksum(t *testing.T) {
	if have := shtCRC([]byte{0xBE, 0xEF}); have != 0x92 {
		t.Errorf("have %#x", have)
	}
}

// The transactions of an SHT3x, byte for byte, with an error of a checksum in
// the second measurement.
func TestSHT3xTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = 0x44
		good := []byte{0x66, 0x66, shtCRC([]byte{0x66, 0x66}), 0x73, 0x33, shtCRC([]byte{0x73, 0x33})}
		bad := append([]byte{}, good...)
		bad[5] ^= 1
		p := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{
			{Addr: at, W: []byte{0x30, 0xA2}},
			{Addr: at, W: []byte{0x30, 0x66}},
			{Addr: at, W: []byte{0xF3, 0x2D}, R: []byte{0x80, 0x10, 0xE1}},
			{Addr: at, W: []byte{0x24, 0x00}},
			{Addr: at, R: good},
			{Addr: at, W: []byte{0x24, 0x00}},
			{Addr: at, R: bad},
			{Addr: at, W: []byte{0x24, 0x00}},
			{Addr: at, R: good},
		}}
		r := start(t, newBench(t, p).open("sht3x", func(any) {}))
		time.Sleep(time.Second)
		r.expect("ready temperature=25 humidity=45")
		time.Sleep(10 * time.Second)
		r.expect("degraded fault:temperature fault:humidity")
		time.Sleep(10 * time.Second)
		r.expect("ready temperature=25 humidity=45")
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// DS25095, register 5-4.
func TestMCP9808Temperature(t *testing.T) {
	for raw, want := range map[uint16]float64{0x0190: 25, 0xC190: 25, 0x1FF0: -1, 0x1D80: -40, 0x07D0: 125, 0x0001: 0.0625, 0xFFFF: -0.0625, 0: 0} {
		if have := mcpCelsius(raw); have != want {
			t.Errorf("%#04x: have %v, want %v", raw, have, want)
		}
	}
}

// Rohm's technical note of the BH1750FVI, "Read format": 0x8390 is 28067 lx.
func TestBH1750Example(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{
			{Addr: 0x23, W: []byte{0x01}},
			{Addr: 0x23, W: []byte{0x20}},
			{Addr: 0x23, R: []byte{0x83, 0x90}},
			{Addr: 0x23, W: []byte{0x20}},
			{Addr: 0x23, R: []byte{0xFF, 0xFF}},
		}}
		r := start(t, newBench(t, p).open("bh1750", func(any) {}))
		time.Sleep(time.Second)
		r.expect("ready illuminance=28066.7")
		time.Sleep(10 * time.Second)
		r.expect("fault:illuminance") // saturated
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// SBOS448G 8.5.1 and 9.2.2.1: 2 milliohm and steps of 1 mA make the calibration
// 20480.
func TestINA219Calibration(t *testing.T) {
	i := newINA219(0.002, 32.768)
	if i.calibration != 20480 || math.Abs(i.lsb-0.001) > 1e-12 {
		t.Errorf("have %d, %v", i.calibration, i.lsb)
	}
	for drop, gain := range map[float64]uint16{0.04: 0, 0.05: 1, 0.08: 1, 0.16: 2, 0.32: 3} {
		if have := newINA219(0.1, drop/0.1).config >> 11 & 3; have != gain {
			t.Errorf("%v V: have gain %d, want %d", drop, have, gain)
		}
	}
	v := newINA219(0.1, 3.2).values([5]uint16{inaShunt: 0xFFFF, inaBus: 0, inaCurrent: 0x8000, inaPower: 0})
	if v[0].V != 0.0 || v[1].V.(float64) > -3.1 || v[3].V != -1e-5 {
		t.Errorf("have %v", v)
	}
}

func TestADS1115BeyondItsRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const at = 0x48
		op := func(config, conversion uint16) []i2ctest.IO {
			b := func(v uint16) []byte { return []byte{byte(v >> 8), byte(v)} }
			return []i2ctest.IO{
				{Addr: at, W: append([]byte{1}, b(config)...)},
				{Addr: at, W: []byte{1}, R: b(config &^ adsStart)}, // still busy
				{Addr: at, W: []byte{1}, R: b(config)},
				{Addr: at, W: []byte{0}, R: b(conversion)},
			}
		}
		p := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{{Addr: at, W: []byte{1}, R: []byte{0x85, 0x83}}}}
		p.Ops = append(p.Ops, op(0xC183, 0x7FFF)...) // a0, 6.144 V
		p.Ops = append(p.Ops, op(0x8B83, 0xC000)...) // a0-a1, 0.256 V
		r := start(t, newBench(t, p).open("ads1115", func(params any) {
			params.(*ADS1115Params).Channels = []ADS1115Channel{{Name: "a", Input: "a0", Range: 6.144, Scale: 1}, {Name: "b", Input: "a0-a1", Range: 0.256, Scale: 1, Offset: 1}}
		}))
		time.Sleep(time.Second)
		r.expect("ready fault:a b=0.872")
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestRegisters(t *testing.T) {
	for _, c := range []struct {
		r    Register
		b    []byte
		want any
	}{
		{Register{Type: "u8", Scale: 1}, []byte{200}, 200.0},
		{Register{Type: "i8", Scale: 0.5}, []byte{0xFE}, -1.0},
		{Register{Type: "u16", Endian: "little", Scale: 1}, []byte{1, 2}, 513.0},
		{Register{Type: "i16", Scale: 0.00390625}, []byte{0xE7, 0x00}, -25.0},
		{Register{Type: "i24", Scale: 1, Offset: 1}, []byte{0xFF, 0xFF, 0xFF}, 0.0},
		{Register{Type: "u32", Scale: 1}, []byte{0xFF, 0xFF, 0xFF, 0xFF}, 4294967295.0},
		{Register{Type: "u8", Scale: 1, Mask: 0x70}, []byte{0xA5}, 2.0},
		{Register{Type: "f32", Scale: 1}, []byte{0x41, 0xC8, 0, 0}, 25.0},
		{Register{Type: "f32", Scale: 1}, []byte{0x7F, 0xC0, 0, 0}, nil},
		{Register{Type: "u8", Scale: 1, Max: 100}, []byte{101}, nil},
	} {
		if have := c.r.value(c.b); have.V != c.want || (c.want == nil) != (have.Err != nil) {
			t.Errorf("%+v of %x: have %+v", c.r, c.b, have)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		p := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{
			{Addr: 0x4F, W: []byte{1, 0x60}},
			{Addr: 0x4F, W: []byte{0}, R: []byte{0x19, 0x00}},
		}}
		r := start(t, newBench(t, p).open("i2c-registers", func(params any) {
			g := params.(*RegistersParams)
			g.Address, g.Setup = 0x4F, []Setup{{Register: 1, Bytes: []uint8{0x60}, Wait: 100 * time.Millisecond}}
			g.Fields = []Register{{Name: "t", Type: "i16", Endian: "big", Scale: 1.0 / 256}}
		}))
		time.Sleep(99 * time.Millisecond)
		r.expect("")
		time.Sleep(time.Second)
		r.expect("ready t=25")
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What is there is not the chip, or less of it.
func TestWrongChips(t *testing.T) {
	for _, c := range []struct {
		typ, want string
		m         model
		change    func(any)
	}{
		{"bme280", "has the id 0x00", &byteChip{}, func(any) {}},
		{"bme280", "calibration is empty", &byteChip{mem: [256]byte{boschID: idBMP280}}, func(any) {}},
		{"mcp9808", "not an MCP9808", &wordChip{}, func(any) {}},
		{"ina219", "not an INA219", &wordChip{}, func(any) {}},
		{"sht3x", "the checksum", &byteChip{}, func(any) {}},
	} {
		synctest.Test(t, func(t *testing.T) {
			sim := newSimulation()
			for a := range Address(0x80) {
				sim.attach(a, c.m)
			}
			if err := <-start(t, newBench(t, sim).open(c.typ, c.change)).result; err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.typ, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation()
		sim.attach(0x76, newBoschModel(false))
		r := start(t, newBench(t, sim).open("bme280", func(any) {}))
		time.Sleep(time.Second)
		r.expect("ready temperature=25.08 pressure=100653.27 fault:humidity")
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
