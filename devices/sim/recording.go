package sim

import (
	"bytes"
	"embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

//go:embed samples/*.csv
var sampleFiles embed.FS

// samples are the recordings that come along.
var samples = map[string]struct {
	timeColumn string
	readings   []Column
}{
	"seattle-2012": {"date", []Column{
		{Name: "temp_max", Unit: "Cel", Type: "float"},
		{Name: "temp_min", Unit: "Cel", Type: "float"},
		{Name: "precipitation", Unit: "mm", Type: "float"},
		{Name: "wind", Unit: "m/s", Type: "float"},
	}},
}

// maxRecording bounds a recording's file, in bytes.
const maxRecording = 4 << 20

// recording is what a playback plays.
type recording struct {
	rows   []row
	length time.Duration // from the first row until it is played again
}

type row struct {
	at       time.Duration // since the first row
	cells    []string      // one per reading
	recorded string        // the row's time as the file has it, "" for none
}

// readRecording reads the file or the sample that p names.
func readRecording(p *PlaybackParams) (*recording, error) {
	var file io.ReadCloser
	var err error
	name := p.File
	if p.Sample != "" {
		name = "sample " + p.Sample
		file, err = sampleFiles.Open("samples/" + p.Sample + ".csv")
	} else {
		file, err = os.Open(p.File)
	}
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxRecording+1))
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	if len(text) > maxRecording {
		return nil, fmt.Errorf("recording %q is larger than %d bytes: split it", name, maxRecording)
	}
	rec, err := parseRecording(text, p)
	if err != nil {
		return nil, fmt.Errorf("recording %q: %w", name, err)
	}
	return rec, nil
}

// parseRecording parses CSV. The first line is a header when no cell of it is
// a number or a time.
func parseRecording(text []byte, p *PlaybackParams) (*recording, error) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	r.Comment = '#'
	r.FieldsPerRecord = -1
	r.TrimLeadingSpace = true
	var columns []int
	timeColumn := -1
	rec := &recording{}
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		if columns == nil {
			var header []string
			if isHeader(cells) {
				header = cells
			}
			if timeColumn, columns, err = findColumns(p, header, len(cells)); err != nil {
				return nil, err
			}
			if header != nil {
				continue
			}
		}
		next, err := p.row(cells, timeColumn, columns, len(rec.rows))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		rec.rows = append(rec.rows, next)
	}
	if len(rec.rows) == 0 {
		return nil, errors.New("there are no values in it")
	}
	return rec, rec.align(p.Interval, timeColumn >= 0)
}

// row makes a row of a line's cells; its time is absolute yet.
func (p *PlaybackParams) row(cells []string, timeColumn int, columns []int, n int) (row, error) {
	r := row{at: time.Duration(n) * p.Interval, cells: make([]string, len(columns))}
	for i, c := range columns {
		if c < len(cells) {
			r.cells[i] = strings.TrimSpace(cells[c])
		}
	}
	if timeColumn >= 0 {
		if timeColumn >= len(cells) {
			return row{}, errors.New("the time is missing")
		}
		r.recorded = strings.TrimSpace(cells[timeColumn])
		at, err := parseTime(r.recorded)
		if err != nil {
			return row{}, err
		}
		r.at = at
	}
	return r, nil
}

// align makes the rows' times count from the first.
func (rec *recording) align(interval time.Duration, timed bool) error {
	first, gap := rec.rows[0].at, interval
	for i := range rec.rows {
		rec.rows[i].at -= first
		if i == 0 {
			continue
		}
		gap = rec.rows[i].at - rec.rows[i-1].at
		if gap < 0 || rec.rows[i].at < 0 {
			return fmt.Errorf("row %d is earlier than the one before (%q)", i+1, rec.rows[i].recorded)
		}
	}
	if !timed || gap == 0 {
		gap = interval
	}
	last := rec.rows[len(rec.rows)-1].at
	if rec.length = last + gap; rec.length < last {
		return errors.New("it spans more than 292 years, which is longer than can be counted")
	}
	return nil
}

func isHeader(cells []string) bool {
	for _, c := range cells {
		if c = strings.TrimSpace(c); c == "" {
			continue
		}
		if _, err := parseTime(c); err == nil {
			return false
		}
		if _, err := strconv.ParseBool(c); err == nil {
			return false
		}
	}
	return true
}

// findColumns resolves the columns that p names; header is nil for a file
// without one.
func findColumns(p *PlaybackParams, header []string, width int) (timeColumn int, columns []int, err error) {
	find := func(name string) (int, error) {
		for i, h := range header {
			if strings.TrimSpace(h) == name {
				return i, nil
			}
		}
		if n, err := strconv.Atoi(name); err == nil && n >= 1 && n <= width {
			return n - 1, nil
		}
		if header == nil {
			return 0, fmt.Errorf("there is no column %q: the file has %d columns and no names, so write a number from 1", name, width)
		}
		return 0, fmt.Errorf("there is no column %q: the columns are %q", name, header)
	}
	timeColumn = -1
	if p.TimeColumn != "" {
		if timeColumn, err = find(p.TimeColumn); err != nil {
			return 0, nil, err
		}
	}
	for _, c := range p.Columns {
		name := c.Column
		if name == "" {
			name = c.Name
		}
		i, err := find(name)
		if err != nil {
			return 0, nil, err
		}
		columns = append(columns, i)
	}
	return timeColumn, columns, nil
}

// maxSeconds bounds times, from 1970: half of what a Duration holds, which
// leaves room for differences.
const maxSeconds = 1 << 62 / int64(time.Second)

// parseTime reads a time as a duration since some moment that is the same for
// all rows written alike.
func parseTime(s string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < float64(maxSeconds) {
		return time.Duration(f * float64(time.Second)), nil
	}
	if d, err := time.ParseDuration(s); err == nil && d.Abs() < time.Duration(maxSeconds)*time.Second {
		return d, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		t, err := time.Parse(layout, s)
		switch {
		case err != nil:
		case t.Unix() <= -maxSeconds || t.Unix() >= maxSeconds:
			return 0, fmt.Errorf("%q is too far from now: times from 1824 to 2116 can be counted", s)
		default:
			return time.Duration(t.Unix())*time.Second + time.Duration(t.Nanosecond()), nil
		}
	}
	return 0, fmt.Errorf("%q is not a time: write seconds, a duration, a date, or RFC 3339", s)
}

// parseCell reads a cell as a value of a reading's type.
func parseCell(cell, typ string) (any, error) {
	if cell == "" && typ != "string" {
		return nil, errors.New("the recording has no value here")
	}
	var v any
	var err error
	switch typ {
	case "int":
		v, err = strconv.ParseInt(cell, 10, 64)
	case "bool":
		v, err = strconv.ParseBool(cell)
	case "string":
		return cell, nil
	default:
		v, err = strconv.ParseFloat(cell, 64)
	}
	if err != nil {
		return nil, fmt.Errorf("the recording has %q here, which is no %s", cell, typ)
	}
	return v, nil
}
