package serial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

const (
	// firstWait is transact's timeout when the caller gives none.
	firstWait  = 2 * time.Second
	longestAsk = 60 * time.Second
	// writeGrace is added to the time that a write needs on the line, before
	// it is given up: the other end may hold it off.
	writeGrace = time.Second
	// reportEvery bounds how often the count of bad lines is published.
	reportEvery = time.Second
	// A device that was degraded by bad lines is well again after so many good
	// ones in a row, or a good one so long after the last bad one.
	goodLines = 10
	goodTime  = 10 * time.Second
)

// port is an open serial port.
type port interface {
	io.ReadWriteCloser // Close may be called twice and ends pending calls
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Lines is the driver "serial-lines".
func Lines() devices.Driver {
	return devices.Driver{
		Type:    "serial-lines",
		Summary: "A device on a serial port that speaks in lines: text, CSV, JSON, or anything that a regular expression can read.",
		Doc: "Any microcontroller, meter, scale, weather station or modem that sends lines over RS-232, RS-485 or a USB adapter. " +
			"Every line is taken apart into fields, and each field is a reading. A line of which a field cannot be understood is counted " +
			"in `bad_lines` and not used at all; the device is then degraded until good lines come again. After noise, reading begins anew with the next delimiter.\n\n" +
			"A missing field (an empty column, a JSON null) is no event; NaN is a fault of its reading. An adapter that is unplugged is opened again when it is back: " +
			"name it by its link in `/dev/serial/by-id`, which does not change. The gateway's user must be in the port's group (`dialout`).",
		Example: "name: weather\ntype: serial-lines\nport: /dev/serial/by-id/usb-Arduino_Uno_55736303831351B0A1C1-if00\nbaud: 115200\n" +
			"format: csv\nseparator: \";\"\ntimeout: 30s\nfields:\n  - name: temperature\n    unit: Cel\n    scale: 0.1\n  - name: humidity\n    unit: \"%\"\n    column: 3\n",
		NewParams:  func() any { return newParams() },
		Readings:   []devices.Reading{badLines},
		Procedures: []devices.Procedure{writeProcedure, transactProcedure},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := *params.(*Params)
			return newDevice(p, func() (port, error) {
				if p.Port == simPort {
					return openSim(), nil
				}
				return openPort(&p)
			})
		},
	}
}

var (
	dataArgs = []devices.Arg{
		{Name: "data", Type: "bytes", Doc: "what to write, text or bytes"},
		{Name: "raw", Type: "bool", Doc: "write it as it is; otherwise the delimiter is added at the end", Optional: true},
	}
	writeProcedure = devices.Procedure{
		Name: "write", Doc: "Writes a line to the device.", Args: dataArgs,
		Returns: "the number of bytes written, with the delimiter",
	}
	transactProcedure = devices.Procedure{
		Name: "transact", Doc: "Writes a line and waits for the next one that the device sends, which becomes readings too if it is like the others. " +
			"Other writes wait meanwhile.",
		Args:    append(dataArgs[:2:2], devices.Arg{Name: "timeout_ms", Type: "int", Doc: "how long to wait for the answer in milliseconds, 2000 by default, at most 60000", Optional: true}),
		Returns: "the line, without its delimiter; as bytes if it is not UTF-8 text",
	}
)

// device is a device of type "serial-lines".
type device struct {
	params   Params
	open     func() (port, error)
	readings []devices.Reading
	parser   *parser
	frame    framer
	buf      [4096]byte
	health   health

	turn chan struct{} // holds a token while a procedure writes or transacts

	mu     sync.Mutex
	port   port        // nil while Run does not serve
	answer chan []byte // takes the next line; nil when nobody waits
	budget budget
}

func newDevice(p Params, open func() (port, error)) (*device, error) {
	a, err := newParser(&p)
	if err != nil {
		return nil, err
	}
	return &device{
		params: p, open: open, readings: p.readings(), parser: a,
		turn:   make(chan struct{}, 1),
		budget: budget{rate: p.WriteRate},
	}, nil
}

func (d *device) Readings() []devices.Reading { return d.readings }

func (d *device) Procedures() []devices.Procedure {
	write, transact := writeProcedure, transactProcedure
	write.Call = func(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		if err := d.takeTurn(ctx); err != nil {
			return nil, err
		}
		defer func() { <-d.turn }()
		n, err := d.write(args)
		return int64(n), err
	}
	transact.Call = d.transact
	return []devices.Procedure{write, transact}
}

// Halt implements devices.Device: nothing is known of what the device at the
// other end drives.
func (d *device) Halt() error { return nil }

// Run implements devices.Device.
func (d *device) Run(ctx context.Context, out devices.Outlet) error {
	p, err := d.open()
	if err != nil {
		return err
	}
	defer p.Close()
	defer context.AfterFunc(ctx, func() { p.Close() })()
	d.setPort(p)
	defer d.setPort(nil)
	d.frame = framer{delimiter: d.params.delimiter(), max: d.params.MaxLine, buf: d.frame.buf[:0]}
	d.health.begin(&d.params, out, time.Now())
	out.Ready()
	for {
		p.SetReadDeadline(d.health.deadline())
		n, err := p.Read(d.buf[:])
		now := time.Now()
		if n > 0 {
			tooLong := d.frame.feed(d.buf[:n], func(line []byte) { d.take(line, now, out) })
			for range tooLong {
				d.health.bad(now, fmt.Errorf("it is longer than %d bytes", d.params.MaxLine))
			}
		}
		d.health.tick(now)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, io.EOF):
			return fmt.Errorf("serial port %s is gone: was it unplugged?", d.params.Port)
		default:
			return fmt.Errorf("read from serial port %s: %w: was it unplugged?", d.params.Port, err)
		}
	}
}

func (d *device) setPort(p port) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.port = p
	if p == nil && d.answer != nil {
		close(d.answer)
		d.answer = nil
	}
}

// take publishes one line.
func (d *device) take(line []byte, now time.Time, out devices.Outlet) {
	if string(d.frame.delimiter) == "\n" {
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	if len(line) == 0 {
		return
	}
	answered := d.deliver(line)
	values, err := d.parser.parse(line)
	if err != nil {
		if !answered { // an answer need not look like the other lines
			d.health.bad(now, err)
		}
		return
	}
	d.health.good(now)
	for i, v := range values {
		switch v := v.(type) {
		case nil:
		case error:
			out.Fault(d.readings[i].Name, v)
		default:
			out.Emit(d.readings[i].Name, v, devices.Sample{Time: now})
		}
	}
}

// deliver gives the line to a transact that waits for it.
func (d *device) deliver(line []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answer == nil {
		return false
	}
	d.answer <- bytes.Clone(line)
	d.answer = nil
	return true
}

func (d *device) takeTurn(ctx context.Context) error {
	select {
	case d.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write writes what the arguments say. The caller has the turn.
func (d *device) write(args wamp.List) (int, error) {
	data, _ := args[0].([]byte)
	raw, _ := args[1].(bool)
	if !raw {
		data = append(bytes.Clone(data), d.params.delimiter()...)
	}
	if longest := d.params.MaxLine + len(d.params.delimiter()); len(data) > longest {
		return 0, wamp.Errorf(wamp.ErrInvalidArgument, "%d bytes are too long: max_line is %d", len(data), d.params.MaxLine)
	}
	d.mu.Lock()
	p := d.port
	free := d.budget.take(time.Now())
	d.mu.Unlock()
	switch {
	case p == nil:
		return 0, wamp.Errorf(wamp.ErrUnavailable, "the serial port is not open")
	case !free:
		return 0, wamp.Errorf(wamp.ErrUnavailable, "more than %d writes in a second", d.params.WriteRate)
	}
	onLine := time.Duration(len(data)) * 12 * time.Second / time.Duration(max(1, d.params.Baud))
	p.SetWriteDeadline(time.Now().Add(onLine + writeGrace))
	n, err := p.Write(data)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, wamp.Errorf(wamp.ErrTimeout, "the device took only %d of %d bytes: is its flow control holding the line?", n, len(data))
	case err != nil:
		return n, wamp.Errorf(wamp.ErrUnavailable, "the serial port is gone")
	}
	return n, nil
}

func (d *device) transact(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
	wait := firstWait
	if ms, ok := args[2].(int64); ok {
		if ms < 1 || ms > int64(longestAsk/time.Millisecond) {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "timeout_ms must be from 1 to %d, not %d", int64(longestAsk/time.Millisecond), ms)
		}
		wait = time.Duration(ms) * time.Millisecond
	}
	if err := d.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer func() { <-d.turn }()
	answer := make(chan []byte, 1)
	d.setAnswer(answer)
	defer d.setAnswer(nil)
	if _, err := d.write(args); err != nil {
		return nil, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case line, ok := <-answer:
		switch {
		case !ok:
			return nil, wamp.Errorf(wamp.ErrUnavailable, "the serial port is gone")
		case !utf8.Valid(line):
			return line, nil
		}
		return string(line), nil
	case <-timer.C:
		return nil, wamp.Errorf(wamp.ErrTimeout, "no line came within %v", wait)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// setAnswer says where the next line goes. While the port is closed there is
// none to come.
func (d *device) setAnswer(c chan []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.port != nil || c == nil {
		d.answer = c
	}
}

// budget bounds a rate: so many in a second, all at once if they like.
type budget struct {
	rate int
	left float64
	last time.Time
}

func (b *budget) take(now time.Time) bool {
	if b.last.IsZero() {
		b.left = float64(b.rate)
	} else {
		b.left = min(float64(b.rate), b.left+now.Sub(b.last).Seconds()*float64(b.rate))
	}
	b.last = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
