package spi

import (
	"context"
	"errors"
	"fmt"
	"sync"

	periph "periph.io/x/conn/v3/spi"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// TransferParams are the parameters of a "spi-transfer".
type TransferParams struct {
	Common   `yaml:",inline"`
	Mode     int     `yaml:"mode" doc:"the SPI mode, 0 to 3, as the chip's data sheet says (CPOL and CPHA)"`
	LSBFirst bool    `yaml:"lsb_first" doc:"the lowest bit of a byte goes first"`
	MaxBytes int     `yaml:"max_bytes" min:"1" max:"4096" doc:"the longest transfer that a caller may ask for"`
	Initial  []uint8 `yaml:"initial" doc:"what is sent when the device starts, such as [0x0c, 0x01]; empty for nothing"`
	Safe     []uint8 `yaml:"safe" doc:"what is sent before anything is accepted, when the device fails, its controller is gone (control) or the gateway stops; empty for nothing"`
}

// maxTransfer is what the kernel's spidev takes at once by default.
const maxTransfer = 4096

// Validate implements devices.Validator.
func (p *TransferParams) Validate(report func(path, problem, hint string)) {
	p.check(report)
	if p.Mode < 0 || p.Mode > 3 {
		report("mode", fmt.Sprintf("%d is not known", p.Mode), "write 0, 1, 2 or 3")
	}
	if p.MaxBytes < 1 || p.MaxBytes > maxTransfer {
		report("max_bytes", fmt.Sprintf("%d is out of range", p.MaxBytes), fmt.Sprintf("write 1 to %d", maxTransfer))
	}
	if len(p.Initial) > maxTransfer {
		report("initial", "it is too long", fmt.Sprintf("at most %d bytes", maxTransfer))
	}
	if len(p.Safe) > maxTransfer {
		report("safe", "it is too long", fmt.Sprintf("at most %d bytes", maxTransfer))
	}
}

var transferProcedure = devices.Procedure{
	Name: "transfer", Doc: "Writes bytes to the chip, with its chip select active, and returns those that it sends meanwhile.",
	Args:    []devices.Arg{{Name: "data", Type: "bytes", Doc: "what is written, at most max_bytes; zeros where only the answer matters"}},
	Returns: "as many bytes, read at the same time",
}

func transferDriver(p *pool, sim *simulation) devices.Driver {
	return devices.Driver{
		Type:    "spi-transfer",
		Summary: "Any chip on an SPI bus, spoken to by procedure.",
		Doc: "For chips that have no driver here: `transfer(data)` writes bytes and returns the ones read at the same time. " +
			"MOSI is GPIO10 (pin 19), MISO GPIO9 (pin 21), SCLK GPIO11 (pin 23), CE0 GPIO8 (pin 24), CE1 GPIO7 (pin 26).\n\n" +
			"A chip that drives something wants `safe`: it is sent before anything is accepted, when the device fails and when the gateway stops. " +
			"With `port: sim` MOSI is joined to MISO.",
		Example:    "name: shift_register\ntype: spi-transfer\nport: /dev/spidev0.1\nmode: 0\nspeed: 500000\nmax_bytes: 2\nsafe: [0x00, 0x00]\n",
		NewParams:  func() any { return &TransferParams{Common: newCommon(500_000), MaxBytes: 256} },
		Procedures: []devices.Procedure{transferProcedure},
		Open: func(env devices.Env, params any) (devices.Device, error) {
			t := &transfer{params: *params.(*TransferParams), name: env.Name, pool: p}
			if t.params.Port == simPort {
				sim.attach(env.Name, loop)
			}
			if len(t.params.Safe) == 0 {
				return t, nil
			}
			return guarded{t}, nil
		},
	}
}

// transfer is a device of type "spi-transfer".
type transfer struct {
	params TransferParams
	name   string
	pool   *pool

	mu      sync.Mutex
	conn    *conn      // while Run serves
	failure chan error // of the current Run, holds one
}

// Readings implements devices.Device.
func (t *transfer) Readings() []devices.Reading { return nil }

// Procedures implements devices.Device.
func (t *transfer) Procedures() []devices.Procedure {
	p := transferProcedure
	p.Call = func(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		return t.call(ctx, args[0].([]byte))
	}
	return []devices.Procedure{p}
}

func (t *transfer) call(ctx context.Context, data []byte) (any, error) {
	if n := len(data); n < 1 || n > t.params.MaxBytes {
		return nil, wamp.Errorf(wamp.ErrInvalidArgument, "transfer: data must have 1 to %d bytes, not %d", t.params.MaxBytes, n)
	}
	t.mu.Lock()
	c, failure := t.conn, t.failure
	t.mu.Unlock()
	if c == nil {
		return nil, wamp.Errorf(wamp.ErrUnavailable, "the device is not running")
	}
	r, err := c.tx(ctx, data)
	if err == nil {
		return r, nil
	}
	if !errors.Is(err, ctx.Err()) {
		select {
		case failure <- err:
		default:
		}
	}
	return nil, wamp.Errorf(wamp.ErrRuntimeError, "the transfer failed; the device starts anew")
}

func (t *transfer) connect() (*conn, func()) {
	mode := periph.Mode(t.params.Mode)
	if t.params.LSBFirst {
		mode |= periph.LSBFirst
	}
	return connect(t.pool, &t.params.Common, mode, t.name)
}

// Run implements devices.Device.
func (t *transfer) Run(ctx context.Context, out devices.Outlet) error {
	c, release := t.connect()
	defer release()
	if len(t.params.Initial) > 0 {
		if _, err := c.tx(ctx, t.params.Initial); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	failure := make(chan error, 1)
	t.mu.Lock()
	t.conn, t.failure = c, failure
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.conn = nil
	}()
	out.Ready()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failure:
		return err
	}
}

// Halt implements devices.Device.
func (t *transfer) Halt() error {
	if len(t.params.Safe) == 0 {
		return nil
	}
	c, release := t.connect()
	defer release()
	_, err := c.tx(context.Background(), t.params.Safe)
	return err
}

// guarded is a transfer with a safe state.
type guarded struct{ *transfer }

// Release implements devices.Releaser. A command that is on its way meanwhile
// is undone by the host.
func (g guarded) Release() error { return g.Halt() }
