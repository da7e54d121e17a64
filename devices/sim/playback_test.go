package sim

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/wamp"
)

func playParams(change func(*PlaybackParams)) *PlaybackParams {
	p := Playback().NewParams().(*PlaybackParams)
	change(p)
	return p
}

func TestPlayback(t *testing.T) {
	at := func(s string) wamp.Dict { return wamp.Dict{"recorded": s} }
	const s = time.Second
	for _, c := range []struct {
		name   string
		file   string
		params func(*PlaybackParams)
		wait   time.Duration
		want   []heard
	}{
		{"points", "", func(p *PlaybackParams) {
			p.Points = []Point{{0, 1}, {2 * s, 2.5}}
		}, 5 * s, []heard{{0, "value", 1.0, nil}, {2 * s, "value", 2.5, nil}, {3 * s, "value", 1.0, nil}, {5 * s, "value", 2.5, nil}}},
		{"points that begin late", "", func(p *PlaybackParams) {
			p.Points, p.Loop = []Point{{s, 1}}, false
		}, 5 * s, []heard{{s, "value", 1.0, nil}}},
		{"lines of text", "# a comment\n20.5\n21\n\n22\n", func(p *PlaybackParams) { p.Loop = false }, 9 * s, []heard{
			{0, "value", 20.5, nil}, {s, "value", 21.0, nil}, {2 * s, "value", 22.0, nil},
		}},
		{"columns by name, dates, faster", "\ufeffdate, wind ,temp,rain\n2012-01-01,4.7,12.8,yes\n2012-01-02,,10.6,no\n2012-01-04,2.3,n/a,\n", func(p *PlaybackParams) {
			p.TimeColumn, p.Speed = "date", 86400
			p.Columns = []Column{{Name: "temperature", Column: "temp", Type: "float"}, {Name: "wind", Type: "float"}, {Name: "rain", Type: "string"}}
		}, 4900 * time.Millisecond, []heard{
			{0, "temperature", 12.8, at("2012-01-01")},
			{0, "wind", 4.7, at("2012-01-01")},
			{0, "rain", "yes", at("2012-01-01")},
			{s, "temperature", 10.6, at("2012-01-02")},
			{s, "wind", "the recording has no value here", nil},
			{s, "rain", "no", at("2012-01-02")},
			{3 * s, "temperature", `the recording has "n/a" here, which is no float`, nil},
			{3 * s, "wind", 2.3, at("2012-01-04")},
			{3 * s, "rain", "", at("2012-01-04")},
		}},
		{"columns by number", "0.5;x\n1,true,7\n1.5,false,8\n4.5,1,9\n", func(p *PlaybackParams) {
			p.TimeColumn = "1"
			p.Columns = []Column{{Name: "open", Column: "2", Type: "bool"}, {Name: "n", Column: "3", Type: "int"}}
		}, 0, nil}, // the first line is too short for a column 3
		{"seconds", "1,true,7\n1.5,false,8\n4.5,1,9.5\n", func(p *PlaybackParams) {
			p.TimeColumn = "1"
			p.Columns = []Column{{Name: "open", Column: "2", Type: "bool"}, {Name: "n", Column: "3", Type: "int"}}
		}, 5 * s, []heard{
			{0, "open", true, at("1")},
			{0, "n", int64(7), at("1")},
			{s / 2, "open", false, at("1.5")},
			{s / 2, "n", int64(8), at("1.5")},
			{3500 * time.Millisecond, "open", true, at("4.5")},
			{3500 * time.Millisecond, "n", `the recording has "9.5" here, which is no int`, nil},
		}},
		{"durations", "1m,1\n1m2s,2\n", func(p *PlaybackParams) {
			p.TimeColumn, p.Columns = "1", []Column{{Name: "v", Column: "2", Type: "float"}}
		}, 3 * s, []heard{{0, "v", 1.0, at("1m")}, {2 * s, "v", 2.0, at("1m2s")}}},
		{"the same time", "3,1\n3,2\n", func(p *PlaybackParams) {
			p.TimeColumn, p.Columns = "1", []Column{{Name: "v", Column: "2", Type: "float"}}
		}, s, []heard{{0, "v", 1.0, at("3")}, {0, "v", 2.0, at("3")}, {s, "v", 1.0, at("3")}, {s, "v", 2.0, at("3")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := ""
			if c.file != "" {
				file = write(t, c.file)
			}
			synctest.Test(t, func(t *testing.T) {
				p := playParams(c.params)
				p.File = file
				dev, e, stop := run(t, Playback(), p)
				after(c.wait)
				err := stop()
				if (err != nil) != (c.want == nil) {
					t.Fatalf("have %v", err)
				}
				if have := e.all(); !reflect.DeepEqual(have, c.want) {
					t.Errorf("have %v,\nwant %v", have, c.want)
				}
				if err := dev.Halt(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestSample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playParams(func(p *PlaybackParams) { p.Sample, p.Speed = "seattle-2012", 86400 })
		dev, e, stop := run(t, Playback(), p)
		after(366*time.Second - time.Millisecond)
		end(t, stop)
		have := e.all()
		if n := len(dev.Readings()); n != 4 || len(have) != 366*n {
			t.Fatalf("have %d values of %d readings, want 366 days of 4", len(have), n)
		}
		for _, h := range have {
			if v, ok := h.value.(float64); !ok || v < -30 || v > 60 {
				t.Fatalf("%s on %v is %v", h.reading, h.extra, h.value)
			}
		}
		if first := have[0]; first.value != 12.8 || first.extra["recorded"] != "2012-01-01" {
			t.Errorf("have %v", first)
		}
	})
}

func TestRecordingErrors(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"missing", "", "no such file"},
		{"empty", "# nothing\n", "there are no values in it"},
		{"header only", "time,v\n", "there are no values in it"},
		{"no such column", "time,w\n1,2\n", `there is no column "v": the columns are ["time" "w"]`},
		{"no header", "1,2\n", `there is no column "time": the file has 2 columns and no names`},
		{"backwards", "time,v\n2,1\n1,1\n", "row 2 is earlier"},
		{"bad time", "time,v\n2,1\nnoon,1\n", `line 3: "noon" is not a time`},
		{"no time", "v,time\n1,2\n1\n", "line 3: the time is missing"},
		{"quotes", "time,v\n\"1,2\n", "extraneous or missing"},
		{"huge", strings.Repeat("1,2\n", maxRecording/4+1), "is larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "missing.csv")
			if c.file != "" {
				name = write(t, c.file)
			}
			synctest.Test(t, func(t *testing.T) {
				p := playParams(func(p *PlaybackParams) {
					p.File, p.TimeColumn, p.Columns = name, "time", []Column{{Name: "v", Type: "float"}}
				})
				_, e, stop := run(t, Playback(), p)
				if err := stop(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("have %v, want %q", err, c.want)
				}
				if e.ready {
					t.Error("the device was ready")
				}
			})
		})
	}
}

func TestPlaybackValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*PlaybackParams)
		want   []string
	}{
		{"file", func(p *PlaybackParams) { p.File = "x" }, nil},
		{"nothing", func(*PlaybackParams) {}, []string{""}},
		{"two sources", func(p *PlaybackParams) { p.File, p.Sample = "x", "seattle-2012" }, []string{""}},
		{"stopped", func(p *PlaybackParams) { p.File, p.Speed = "x", 0 }, []string{"speed"}},
		{"unsorted", func(p *PlaybackParams) { p.Points = []Point{{2, 0}, {1, 0}} }, []string{"points"}},
		{"points of many", func(p *PlaybackParams) {
			p.Points, p.Columns = []Point{{0, 0}}, []Column{{Name: "a"}, {Name: "b"}}
		}, []string{"columns"}},
		{"names", func(p *PlaybackParams) {
			p.File, p.Columns = "x", []Column{{Name: "a"}, {Name: "A"}, {Name: "a"}}
		}, []string{"columns[1].name", "columns[2].name"}},
	} {
		if have := wrong(playParams(c.change)); !slices.Equal(have, c.want) {
			t.Errorf("%s: have %q, want %q", c.name, have, c.want)
		}
	}
	var column Column
	if column.SetDefaults(); column.Type != "float" {
		t.Errorf("have %+v", column)
	}
}

func FuzzRecording(f *testing.F) {
	for _, text := range []string{
		"1\n2\n", "date,v\n2012-01-01,1\n2012-01-02,2\n", "# c\n\"a\",b\n1e300,2\n", "time,v\n1s,1\n2s,nan\n", "0001-01-01,1\n9999-12-31,2\n", "\ufeff,\n,",
	} {
		f.Add(text, "1", "2", 1.0)
	}
	sample, err := os.ReadFile("samples/seattle-2012.csv")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(sample), "date", "wind", 1e7)
	f.Fuzz(func(t *testing.T, text, timeColumn, column string, speed float64) {
		p := playParams(func(p *PlaybackParams) {
			p.TimeColumn, p.Speed = timeColumn, speed
			p.Columns = []Column{{Name: "v", Column: column, Type: "float"}}
		})
		rec, err := parseRecording([]byte(text), p)
		if err != nil {
			return
		}
		last := time.Duration(0)
		for i := range rec.rows {
			if rec.rows[i].at < last || len(rec.rows[i].cells) != 1 {
				t.Fatalf("row %d at %v after %v: %v", i, rec.rows[i].at, last, rec.rows[i])
			}
			last = rec.rows[i].at
			if v, err := parseCell(rec.rows[i].cells[0], "float"); err == nil {
				_ = v.(float64)
			}
		}
		if rec.length <= last {
			t.Fatalf("the recording ends at %v, its last row is at %v", rec.length, last)
		}
	})
}
