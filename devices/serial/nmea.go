package serial

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices"
)

// NMEAParams are the parameters of a "serial-nmea".
type NMEAParams struct {
	Line      `yaml:",inline"`
	Timeout   time.Duration `yaml:"timeout" doc:"without a good sentence for this long the readings have no value any more; 0s for never"`
	WriteRate int           `yaml:"write_rate" doc:"writes in a second; more are refused"`
}

// Validate implements devices.Validator.
func (p *NMEAParams) Validate(report func(path, problem, hint string)) {
	p.Line.check(report)
	checkTimes(p.Timeout, p.WriteRate, report)
}

// maxSentence is longer than the standard's 82: receivers do not keep to it.
const maxSentence = 255

// The readings of a receiver, by their place.
const (
	nmeaFix = iota
	nmeaLatitude
	nmeaLongitude
	nmeaAltitude
	nmeaSpeed
	nmeaCourse
	nmeaSatellites
	nmeaHDOP
	nmeaPDOP
	nmeaVDOP
	nmeaMode
	nmeaTime
	nmeaCount
)

var nmeaReadings = []devices.Reading{
	{Name: "fix", Type: "string", Doc: "how the position was found: none, gps, dgps, pps, rtk, rtk-float, estimated, manual or simulated"},
	{Name: "latitude", Type: "float", Unit: "deg", Doc: "north is positive; a fault without a fix"},
	{Name: "longitude", Type: "float", Unit: "deg", Doc: "east is positive; a fault without a fix"},
	{Name: "altitude", Type: "float", Unit: "m", Doc: "above mean sea level"},
	{Name: "speed", Type: "float", Unit: "m/s", Doc: "over ground"},
	{Name: "course", Type: "float", Unit: "deg", Doc: "over ground, from true north; none while standing"},
	{Name: "satellites", Type: "int", Doc: "satellites in use"},
	{Name: "hdop", Type: "float", Doc: "horizontal dilution of precision"},
	{Name: "pdop", Type: "float", Doc: "dilution of precision"},
	{Name: "vdop", Type: "float", Doc: "vertical dilution of precision"},
	{Name: "mode", Type: "string", Doc: "none, 2d or 3d"},
	{Name: "time", Type: "string", Doc: "the receiver's time, UTC, RFC 3339"},
	badLines,
}

// NMEA is the driver "serial-nmea".
func NMEA() devices.Driver {
	return devices.Driver{
		Type:    "serial-nmea",
		Summary: "A receiver of satellite navigation that speaks NMEA 0183: position, speed, course, fix, satellites, time.",
		Doc: "**Wiring**: a USB receiver as it is; a module: TX to GPIO15 (pin 10), RX to GPIO14 (pin 8), 3.3 V, ground, and the board's UART enabled. " +
			"Read are RMC, GGA, VTG, GSA, GLL and ZDA of any talker; others are passed over. A sentence without its checksum, or with a wrong one, is counted in `bad_lines`. " +
			"What several sentences say (the position in RMC, GGA and GLL) is published from one of them. When the fix is lost, position, altitude, speed and course become faults, once.\n\n" +
			"`write` sends a sentence: `$PMTK220,1000` gets its checksum and line end. " + simDoc,
		Example:    "name: gps\ntype: serial-nmea\nport: /dev/serial/by-id/usb-u-blox_AG_u-blox_7-if00\ntimeout: 10s\n",
		NewParams:  func() any { return &NMEAParams{Line: newLine(), Timeout: 10 * time.Second, WriteRate: 20} },
		Readings:   nmeaReadings,
		Procedures: []devices.Procedure{writeProcedure, transactProcedure},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := *params.(*NMEAParams)
			return newNMEA(&p, func() (port, error) { return p.Line.open(talker(simNMEA)) }), nil
		},
	}
}

func newNMEA(p *NMEAParams, open func() (port, error)) *device {
	n := &nmea{}
	return newStream(protocol{
		line: &p.Line, noun: "line", text: true, readings: nmeaReadings, parse: n.parse, longest: maxSentence,
		timeout: p.Timeout, writeRate: p.WriteRate,
		framing: func() framing { return &lineFraming{framer{delimiter: []byte("\n"), max: maxSentence}} },
		wrap:    sealSentence,
	}, open)
}

// sealSentence adds what is missing of "$", checksum and line end.
func sealSentence(data []byte) []byte {
	body := bytes.TrimPrefix(data, []byte("$"))
	if i := bytes.IndexByte(body, '*'); i >= 0 {
		body = body[:i]
	}
	return fmt.Appendf(nil, "$%s*%02X\r\n", body, check("xor-8", body))
}

// nmea keeps what must be known of earlier sentences.
type nmea struct {
	values [nmeaCount]any
	lost   bool // that there is no fix was said
	owners [nmeaCount]owner
}

// owner is the type of sentence that a reading is taken from.
type owner struct {
	kind   string
	others int // sentences of other types with this reading, in a row
}

// sentenceRank prefers the types that know more.
var sentenceRank = map[string]int{"GGA": 0, "RMC": 1, "VTG": 2, "GSA": 3, "GLL": 4, "ZDA": 5}

var (
	errNoFix    = errors.New("the receiver has no fix")
	errSentence = errors.New("it is not an NMEA 0183 sentence")
)

// parse reads one sentence: see parser.parse.
func (n *nmea) parse(line []byte) ([]any, error) {
	clear(n.values[:])
	body, sum, ok := bytes.Cut(bytes.TrimSpace(line), []byte("*"))
	if !ok || len(body) < 7 || body[0] != '$' && body[0] != '!' {
		return nil, errSentence
	}
	var want [1]byte
	if len(sum) != 2 {
		return nil, errSentence
	}
	if _, err := hex.Decode(want[:], sum); err != nil {
		return nil, errSentence
	}
	if have := check("xor-8", body[1:]); have != uint32(want[0]) {
		return nil, fmt.Errorf("its checksum is wrong: %02X instead of %02X", want[0], have)
	}
	f := strings.Split(string(body[1:]), ",")
	if len(f[0]) != 5 || f[0][0] == 'P' { // a maker's own
		return n.values[:], nil
	}
	var err error
	switch kind := f[0][2:]; {
	case kind == "RMC" && len(f) >= 10:
		err = n.rmc(f)
	case kind == "GGA" && len(f) >= 10:
		err = n.gga(f)
	case kind == "VTG" && len(f) >= 6:
		err = errors.Join(n.number("VTG", nmeaCourse, f[1], 1), n.number("VTG", nmeaSpeed, f[5], knot))
	case kind == "GSA" && len(f) >= 18:
		err = n.gsa(f)
	case kind == "GLL" && len(f) >= 7 && f[6] == "A":
		err = n.position("GLL", f[1:5])
	case kind == "ZDA" && len(f) >= 5:
		err = n.clock("ZDA", f[1], f[2]+f[3], f[4])
	}
	if err != nil {
		return nil, err
	}
	return n.values[:], nil
}

// knot is one in m/s.
const knot = 1852.0 / 3600

// take keeps a value unless another type of sentence is the reading's.
func (n *nmea) take(kind string, i int, v any) {
	const patience = 10
	o := &n.owners[i]
	if o.kind != kind && o.kind != "" && sentenceRank[kind] > sentenceRank[o.kind] {
		if o.others++; o.others <= patience {
			return
		}
	}
	*o = owner{kind: kind}
	n.values[i] = v
}

func (n *nmea) number(kind string, i int, s string, scale float64) error {
	if s == "" {
		return nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("%s is not a number", quoted(s))
	}
	n.take(kind, i, v*scale)
	return nil
}

// fix notes whether there is a position, and says once that there is none.
func (n *nmea) fix(has bool) {
	if !has && !n.lost {
		for _, i := range []int{nmeaLatitude, nmeaLongitude, nmeaAltitude, nmeaSpeed, nmeaCourse} {
			n.values[i] = errNoFix
		}
	}
	n.lost = !has
}

// rmc: time, status, latitude, N/S, longitude, E/W, knots, course, date.
func (n *nmea) rmc(f []string) error {
	valid := f[2] == "A"
	if n.owners[nmeaFix].kind != "GGA" || !valid {
		n.fix(valid)
	}
	var err error
	if valid {
		err = errors.Join(n.position("RMC", f[3:7]), n.number("RMC", nmeaSpeed, f[7], knot), n.number("RMC", nmeaCourse, f[8], 1))
	}
	if len(f[9]) == 6 {
		century := "20"
		if f[9][4] >= '8' {
			century = "19"
		}
		err = errors.Join(err, n.clock("RMC", f[1], f[9][:4], century+f[9][4:]))
	}
	return err
}

var fixes = []string{"none", "gps", "dgps", "pps", "rtk", "rtk-float", "estimated", "manual", "simulated"}

// gga: time, latitude, N/S, longitude, E/W, quality, satellites, HDOP, altitude.
func (n *nmea) gga(f []string) error {
	quality, err := strconv.Atoi(f[6])
	if err != nil || quality < 0 || quality >= len(fixes) {
		return fmt.Errorf("%s is not a quality of fix", quoted(f[6]))
	}
	n.take("GGA", nmeaFix, fixes[quality])
	n.fix(quality > 0)
	if f[7] != "" {
		count, err := strconv.ParseUint(f[7], 10, 8)
		if err != nil {
			return fmt.Errorf("%s is not a number of satellites", quoted(f[7]))
		}
		n.take("GGA", nmeaSatellites, int64(count))
	}
	if quality == 0 {
		return nil
	}
	return errors.Join(n.position("GGA", f[2:6]), n.number("GGA", nmeaHDOP, f[8], 1), n.number("GGA", nmeaAltitude, f[9], 1))
}

// gsa: selection, mode, twelve satellites, PDOP, HDOP, VDOP.
func (n *nmea) gsa(f []string) error {
	mode := map[string]string{"1": "none", "2": "2d", "3": "3d"}[f[2]]
	if mode == "" {
		return fmt.Errorf("%s is not a mode", quoted(f[2]))
	}
	n.take("GSA", nmeaMode, mode)
	if mode == "none" {
		return nil
	}
	return errors.Join(n.number("GSA", nmeaPDOP, f[15], 1), n.number("GSA", nmeaHDOP, f[16], 1), n.number("GSA", nmeaVDOP, f[17], 1))
}

// position reads latitude, N/S, longitude, E/W.
func (n *nmea) position(kind string, f []string) error {
	if f[0] == "" || f[2] == "" {
		return nil
	}
	lat, err := degrees(f[0], f[1], "N", "S", 90)
	if err != nil {
		return err
	}
	lon, err := degrees(f[2], f[3], "E", "W", 180)
	if err != nil {
		return err
	}
	n.take(kind, nmeaLatitude, lat)
	n.take(kind, nmeaLongitude, lon)
	return nil
}

// degrees reads dddmm.mmmm.
func degrees(s, side, plus, minus string, most float64) (float64, error) {
	point := strings.IndexByte(s+".", '.')
	if point < 3 || side != plus && side != minus || strings.Trim(s, "0123456789.") != "" {
		return 0, fmt.Errorf("%s %s is no position", quoted(s), quoted(side))
	}
	d, err1 := strconv.ParseFloat(s[:point-2], 64)
	m, err2 := strconv.ParseFloat(s[point-2:], 64)
	v := math.Round((d+m/60)*1e8) / 1e8
	if err1 != nil || err2 != nil || m >= 60 || v > most {
		return 0, fmt.Errorf("%s is no position", quoted(s))
	}
	if side == minus {
		v = -v
	}
	return v, nil
}

// clock reads hhmmss.ss, ddmm and yyyy.
func (n *nmea) clock(kind, clock, day, year string) error {
	if clock == "" || day == "" || year == "" {
		return nil
	}
	t, err := time.Parse("150405.999999999 0201 2006", clock+" "+day+" "+year)
	if err != nil {
		return fmt.Errorf("%s is no time", quoted(clock+" "+day+" "+year))
	}
	n.take(kind, nmeaTime, t.Format(time.RFC3339Nano))
	return nil
}

// simNMEA is a receiver that goes round in a circle.
func simNMEA(n int) []byte {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second)
	clock, course := now.Format("150405.00"), n*6%360
	minute := 7.038 + 0.1*math.Sin(float64(course)*math.Pi/180)
	return append(
		sealSentence(fmt.Appendf(nil, "GPRMC,%s,A,48%07.4f,N,01131.0000,E,10.0,%d,%s,,", clock, minute, course, now.Format("020106"))),
		sealSentence(fmt.Appendf(nil, "GPGGA,%s,48%07.4f,N,01131.0000,E,1,08,0.9,545.4,M,46.9,M,,", clock, minute))...)
}
