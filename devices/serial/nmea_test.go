package serial

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/postern-iot/postern/devices"
)

// said is what the values of one sentence amount to.
func said(values []any) string {
	var all []string
	for i, v := range values {
		if v != nil {
			all = append(all, fmt.Sprintf("%s=%v", nmeaReadings[i].Name, v))
		}
	}
	return strings.Join(all, " ")
}

func TestNMEA(t *testing.T) {
	n := &nmea{}
	for _, c := range []struct{ line, want, problem string }{
		{"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A", "latitude=48.1173 longitude=11.51666667 speed=11.523555555555555 course=84.4 time=1994-03-23T12:35:19Z", ""},
		{"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r", "fix=gps latitude=48.1173 longitude=11.51666667 altitude=545.4 satellites=8 hdop=0.9", ""},
		{"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A", "speed=11.523555555555555 course=84.4 time=1994-03-23T12:35:19Z", ""},
		{"$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39", "pdop=2.5 vdop=2.1 mode=3d", ""},
		{"$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48", "", ""}, // RMC says it
		{string(sealSentence([]byte("GNGGA,1,3351.5,S,15112.5,W,4,12,0.7,1,M,,,,"))), "fix=rtk latitude=-33.85833333 longitude=-151.20833333 altitude=1 satellites=12 hdop=0.7", ""},
		{string(sealSentence([]byte("GPGGA,1,,,,,0,00,,,M,,M,,"))), "fix=none latitude=the receiver has no fix longitude=the receiver has no fix altitude=the receiver has no fix speed=the receiver has no fix course=the receiver has no fix satellites=0", ""},
		{string(sealSentence([]byte("GPRMC,1,V,,,,,,,,,"))), "", ""}, // said already
		{string(sealSentence([]byte("GPGSV,3,1,11,03,03,111,00"))), "", ""},
		{string(sealSentence([]byte("PUBX,00,1"))), "", ""},
		{"$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*38", "", "checksum is wrong"},
		{"$GPGSA,A,3,04,05", "", "not an NMEA"},
		{"hello", "", "not an NMEA"},
		{string(sealSentence([]byte("GPGLL,4860.0,N,01131.0,E,123519,A"))), "", "no position"},
		{string(sealSentence([]byte("GPGLL,9100.0,N,01131.0,E,123519,A"))), "", "no position"},
		{string(sealSentence([]byte("GPGLL,NaN00,N,01131.0,E,123519,A"))), "", "no position"},
		{string(sealSentence([]byte("GPZDA,250000,01,01,2026,,"))), "", "no time"},
		{string(sealSentence([]byte("GPVTG,inf,T,,M,5,N,,K"))), "", "not a number"},
	} {
		values, err := n.parse([]byte(c.line))
		if c.problem != "" {
			if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%s: %v", c.line, err)
			}
			continue
		}
		if have := said(values); err != nil || have != c.want {
			t.Errorf("%s\nhave %s, %v\nwant %s", c.line, have, err, c.want)
		}
	}
	if have := string(sealSentence([]byte("$PMTK220,1000"))); have != "$PMTK220,1000*1F\r\n" {
		t.Errorf("%q", have)
	}
	if _, err := devices.NewTable(Lines(), NMEA(), Frames(), Modbus()); err != nil {
		t.Error(err)
	}
}

func TestNMEAOnALine(t *testing.T) {
	p := NMEA().NewParams().(*NMEAParams)
	p.Simulate()
	dev, err := NMEA().Open(devices.Env{}, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextOf(t)
	o, result := newOutlet(), make(chan error, 1)
	go func() { result <- dev.Run(ctx, o) }()
	if have := o.until(t, "satellites=8"); !strings.Contains(have, "latitude=48.1173") || strings.Contains(have, "degraded") {
		t.Errorf("%s", have)
	}
	cancel()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func FuzzNMEA(f *testing.F) {
	for _, s := range []string{"GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W", "GPGGA,1,,,,,0,00,,,M,,M,,", "GPGSA,A,3,,,,,,,,,,,,,1,2,3", "GPZDA,1,2,3,4,,"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n := &nmea{}
		n.parse(body)
		values, err := n.parse(sealSentence(body))
		if err != nil {
			return
		}
		for i, v := range values {
			if x, ok := v.(float64); ok && (math.IsNaN(x) || math.IsInf(x, 0) || i == nmeaLatitude && math.Abs(x) > 90 || i == nmeaLongitude && math.Abs(x) > 180) {
				t.Errorf("%q: %s is %v", body, nmeaReadings[i].Name, x)
			}
		}
	})
}
