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

// protocol is what a device on a port of its own speaks: in frames, each of
// which is taken apart into values.
type protocol struct {
	line      *Line
	noun      string // what a frame is called
	text      bool   // frames are text, if they are UTF-8
	readings  []devices.Reading
	longest   int // bytes of a frame
	timeout   time.Duration
	writeRate int
	// framing is made for every run.
	framing func() framing
	// parse returns the values of the readings but the last, which counts the
	// frames that are not like the others; see parser.parse.
	parse func(frame []byte) ([]any, error)
	// wrap makes a frame of data.
	wrap func(data []byte) []byte
	// safe is what is written as the safe state, framed; empty for none.
	safe []byte
}

// framing cuts a stream into frames. It calls frame with each, valid during the
// call, and bad where it finds that what came is none.
type framing interface {
	feed(p []byte, frame func([]byte), bad func(error))
}

// device is a device with a port of its own.
type device struct {
	protocol
	open    func() (port, error)
	framing framing
	buf     [4096]byte
	health  health

	turn chan struct{} // holds a token while a procedure writes or transacts

	mu     sync.Mutex
	port   port        // nil while Run does not serve
	answer chan []byte // takes the next frame; nil when nobody waits
	budget budget
}

func newStream(p protocol, open func() (port, error)) *device {
	return &device{protocol: p, open: open, turn: make(chan struct{}, 1), budget: budget{rate: p.writeRate}}
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
	d.framing = d.protocol.framing()
	d.health.begin(&d.protocol, out, time.Now())
	out.Ready()
	for {
		p.SetReadDeadline(d.health.deadline())
		n, err := p.Read(d.buf[:])
		now := time.Now()
		if n > 0 {
			d.framing.feed(d.buf[:n], func(frame []byte) { d.take(frame, now, out) }, func(err error) { d.health.bad(now, err) })
		}
		d.health.tick(now)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, io.EOF):
			return fmt.Errorf("serial port %s is gone: was it unplugged?", d.line.Port)
		default:
			return fmt.Errorf("read from serial port %s: %w: was it unplugged?", d.line.Port, err)
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

// take publishes one frame.
func (d *device) take(frame []byte, now time.Time, out devices.Outlet) {
	answered := d.deliver(frame)
	values, err := d.parse(frame)
	if err != nil {
		if !answered { // an answer need not look like the others
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
		if len(data) > d.longest {
			return 0, wamp.Errorf(wamp.ErrInvalidArgument, "%d bytes are too long: max_%s is %d", len(data), d.noun, d.longest)
		}
		data = d.wrap(data)
	} else if longest := max(64, 2*d.longest); len(data) > longest {
		return 0, wamp.Errorf(wamp.ErrInvalidArgument, "%d bytes are too long: at most %d can be written", len(data), longest)
	}
	d.mu.Lock()
	p := d.port
	free := d.budget.take(time.Now())
	d.mu.Unlock()
	switch {
	case p == nil:
		return 0, wamp.Errorf(wamp.ErrUnavailable, "the serial port is not open")
	case !free:
		return 0, wamp.Errorf(wamp.ErrUnavailable, "more than %d writes in a second", d.writeRate)
	}
	onLine := time.Duration(len(data)) * 12 * time.Second / time.Duration(max(1, d.line.Baud))
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
		case !d.text || !utf8.Valid(line):
			return line, nil
		}
		return string(line), nil
	case <-timer.C:
		return nil, wamp.Errorf(wamp.ErrTimeout, "no %s came within %v", d.noun, wait)
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
