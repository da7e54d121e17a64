package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// PlaybackParams are the parameters of a sim-playback.
type PlaybackParams struct {
	File       string        `yaml:"file" doc:"a CSV file, or a text file with one value per line; # begins a comment line"`
	Sample     string        `yaml:"sample" enum:"seattle-2012" doc:"a recording that comes along instead of a file: seattle-2012, a year of weather, one row a day"`
	Points     []Point       `yaml:"points" doc:"the values themselves, instead of a file"`
	TimeColumn string        `yaml:"time_column" doc:"column of the file with the rows' times (seconds, a duration, a date, or RFC 3339), by its name in the first line or its number from 1; without one a row follows the other every interval"`
	Columns    []Column      `yaml:"columns" doc:"the readings, one per column; without any, a number named value from the first column"`
	Interval   time.Duration `yaml:"interval" min:"1ms" doc:"time between rows that have no times, and before the first is played again"`
	Speed      float64       `yaml:"speed" doc:"how much faster than it was recorded: 60 plays an hour in a minute"`
	Loop       bool          `yaml:"loop" doc:"begin again at the end"`
}

// Point is a value at a time.
type Point struct {
	At    time.Duration `yaml:"at" min:"0s" doc:"time since the beginning"`
	Value float64       `yaml:"value" doc:"the value from then on"`
}

// Column is a reading that is played from a column.
type Column struct {
	Name   string `yaml:"name" required:"true" doc:"name of the reading: a-z, 0-9 and _"`
	Column string `yaml:"column" doc:"the column, by its name in the file's first line or its number from 1; without it, the one of the reading's name"`
	Unit   string `yaml:"unit" doc:"unit of the reading, in UCUM: Cel, %, V"`
	Type   string `yaml:"type" enum:"float,int,bool,string" doc:"what the values are: float, int, bool or string"`
}

// SetDefaults fills in what an element of a list has by default.
func (c *Column) SetDefaults() { c.Type = "float" }

// Validate implements devices.Validator.
func (p *PlaybackParams) Validate(report func(path, problem, hint string)) {
	sources := 0
	for _, given := range []bool{p.File != "", p.Sample != "", len(p.Points) > 0} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		report("", fmt.Sprintf("%d of file, sample and points are given", sources), "give exactly one of them")
	}
	if !(p.Speed > 0 && p.Speed <= maxSpeed) {
		report("speed", "it is not above 0 and at most 10000000", "1 is as recorded, 60 is a minute a second")
	}
	if len(p.Points) > 0 && len(p.Columns) > 1 {
		report("columns", "points have one value each", "name one reading")
	}
	if !slices.IsSortedFunc(p.Points, func(a, b Point) int { return cmp.Compare(a.At, b.At) }) {
		report("points", "they are not in the order of their times", "sort them by at")
	}
	seen := map[string]bool{}
	for i, c := range p.Columns {
		validateReading(fmt.Sprintf("columns[%d].name", i), c.Name, report)
		if seen[c.Name] {
			report(fmt.Sprintf("columns[%d].name", i), fmt.Sprintf("%q is there twice", c.Name), "")
		}
		seen[c.Name] = true
	}
}

const maxSpeed = 1e7

// Simulate implements devices.Simulator: it is simulated already.
func (p *PlaybackParams) Simulate() {}

// Playback is the driver of sim-playback.
func Playback() devices.Driver {
	return devices.Driver{
		Type:    "sim-playback",
		Summary: "Plays recorded values: from a CSV or text file, or from the configuration.",
		Doc: "Each row is published when its time has come, as the values of now; the keyword `recorded` has the time in the file.\n" +
			"An empty cell, or one that is not of the reading's type, is published as a fault.\n" +
			"A file that cannot be read is tried again, and may be changed while the gateway runs: it is read each time the device starts.\n\n" +
			"Without a file: `points: [{at: 0s, value: 10}, {at: 5s, value: 35.5}]`, or `sample: seattle-2012` with `speed: 43200`,\n" +
			"which has the readings temp_max and temp_min (Cel), precipitation (mm) and wind (m/s).",
		Example: `name: weather
type: sim-playback
file: weather.csv            # date,temp_max,wind
time_column: date
speed: 43200                 # a day in two seconds
columns:
  - {name: temperature, column: temp_max, unit: Cel}
  - {name: wind, unit: m/s}
`,
		NewParams: func() any {
			return &PlaybackParams{Interval: time.Second, Speed: 1, Loop: true}
		},
		Readings: []devices.Reading{{Name: "value", Doc: "the recorded value", Type: "float"}},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := *params.(*PlaybackParams)
			p.Speed = min(max(p.Speed, 1/maxSpeed), maxSpeed)
			if s, ok := samples[p.Sample]; ok {
				p.TimeColumn = s.timeColumn
				if len(p.Columns) == 0 {
					p.Columns = s.readings
				}
			}
			if len(p.Columns) == 0 {
				p.Columns = []Column{{Name: "value", Column: "1", Type: "float"}}
			}
			return &playback{p}, nil
		},
	}
}

type playback struct{ PlaybackParams }

func (p *playback) Readings() []devices.Reading {
	readings := make([]devices.Reading, len(p.Columns))
	for i, c := range p.Columns {
		typ := c.Type
		if typ == "" {
			typ = "float"
		}
		readings[i] = devices.Reading{Name: c.Name, Doc: "the recorded value", Unit: c.Unit, Type: typ}
	}
	return readings
}

func (p *playback) Procedures() []devices.Procedure { return nil }

func (p *playback) Halt() error { return nil }

func (p *playback) Run(ctx context.Context, out devices.Outlet) error {
	rec, err := p.record()
	if err != nil {
		return err
	}
	out.Ready()
	timer := time.NewTimer(0)
	defer timer.Stop()
	begin := time.Now()
	for {
		for i := range rec.rows {
			row := &rec.rows[i]
			timer.Reset(time.Until(begin.Add(p.scaled(row.at))))
			select {
			case <-timer.C:
			case <-ctx.Done():
				return nil
			}
			p.play(row, out)
		}
		if !p.Loop {
			<-ctx.Done()
			return nil
		}
		begin = begin.Add(max(p.scaled(rec.length), time.Millisecond))
		if time.Since(begin) > p.scaled(rec.length) {
			begin = time.Now() // the machine was asleep: do not catch up
		}
	}
}

// scaled is d as it is played; what does not end in a lifetime is cut, so that
// the sum with a time stays one.
func (p *playback) scaled(d time.Duration) time.Duration {
	return time.Duration(min(float64(d)/p.Speed, float64(1<<62)))
}

// record reads the recording.
func (p *playback) record() (*recording, error) {
	if len(p.Points) == 0 {
		return readRecording(&p.PlaybackParams)
	}
	rec := &recording{}
	for _, point := range p.Points {
		rec.rows = append(rec.rows, row{at: point.At, cells: []string{strconv.FormatFloat(point.Value, 'g', -1, 64)}})
	}
	rec.length = p.Points[len(p.Points)-1].At + p.Interval
	return rec, nil
}

// play publishes one row.
func (p *playback) play(r *row, out devices.Outlet) {
	for i, c := range p.Columns {
		v, err := parseCell(r.cells[i], c.Type)
		if err != nil {
			out.Fault(c.Name, err)
			continue
		}
		var s devices.Sample
		if r.recorded != "" {
			s.Extra = wamp.Dict{"recorded": r.recorded}
		}
		out.Emit(c.Name, v, s)
	}
}
