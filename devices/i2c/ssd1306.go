package i2c

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// References are to Solomon Systech's data sheet SSD1306.

// SSD1306Params are the parameters of a "ssd1306".
type SSD1306Params struct {
	Common   `yaml:",inline"`
	Height   int  `yaml:"height" doc:"lines of the display, 64 or 32; all have 128 columns"`
	Rotate   bool `yaml:"rotate" doc:"upside down"`
	Contrast int  `yaml:"contrast" min:"0" max:"255" doc:"brightness at start"`
	Keep     bool `yaml:"keep" doc:"the display goes on showing what it shows when the gateway stops; else it is switched off, so that nobody takes an old value for a new one"`
}

const ssdWidth = 128

// Validate implements devices.Validator.
func (p *SSD1306Params) Validate(report func(path, problem, hint string)) {
	p.check(report, 0x3C, 0x3D)
	if p.Height != 64 && p.Height != 32 {
		report("height", fmt.Sprintf("%d is not possible", p.Height), "write 64 or 32")
	}
	if p.Contrast < 0 || p.Contrast > 255 {
		report("contrast", fmt.Sprintf("%d is out of range", p.Contrast), "write 0 to 255")
	}
}

var (
	ssdText = devices.Procedure{
		Name: "text", Doc: "Writes one line of text, in place of what the line had. A display of 64 lines has room for 4, one of 32 for 2, each of 18 characters; more are cut off.",
		Args: []devices.Arg{
			{Name: "line", Type: "int", Doc: "from 0 at the top"},
			{Name: "text", Type: "string", Doc: "printable ASCII; other characters become a box"},
		},
		Returns: "the number of characters that were written",
	}
	ssdBitmap = devices.Procedure{
		Name: "bitmap", Doc: "Draws a small picture over what is there.",
		Args: []devices.Arg{
			{Name: "x", Type: "int", Doc: "column of its left side, from 0"},
			{Name: "y", Type: "int", Doc: "line of its upper side, from 0"},
			{Name: "width", Type: "int", Doc: "1 to 128"},
			{Name: "data", Type: "bytes", Doc: "its lines from the top, each of (width+7)/8 bytes, the highest bit at the left"},
		},
		Returns: "true",
	}
	ssdClear = devices.Procedure{Name: "clear", Doc: "Makes the display dark.", Returns: "true"}
	ssdDim   = devices.Procedure{
		Name: "contrast", Doc: "Sets the brightness.",
		Args:    []devices.Arg{{Name: "level", Type: "int", Doc: "0 to 255"}},
		Returns: "the level",
	}
)

func ssd1306Driver(p *pool, sim *simulation) devices.Driver {
	return devices.Driver{
		Type:    "ssd1306",
		Summary: "A display of 128 by 64 or 32 points with the controller SSD1306: text and small pictures.",
		Doc: "VCC to 3.3 V (pin 1), GND to ground (pin 6), SDA to GPIO2 (pin 3), SCL to GPIO3 (pin 5). The address is 0x3c, on some boards 0x3d " +
			"(a print of 0x78 or 0x7a there is the same, with the direction bit).\n\n" +
			"The gateway keeps the picture: a display that was unplugged shows it again. A full picture takes a tenth of a second at 100 kHz; other chips on the bus have their turns in between. " +
			"The device looks every `interval` whether the display is there. A display is not for what must be seen: there is no way to read back what it shows.",
		Example:    "name: panel\ntype: ssd1306\naddress: 0x3c\nheight: 64\n",
		NewParams:  func() any { return &SSD1306Params{Common: newCommon(0x3C), Height: 64, Contrast: 0xCF} },
		Procedures: []devices.Procedure{ssdText, ssdBitmap, ssdClear, ssdDim},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			return newSSD1306(p, sim, *params.(*SSD1306Params))
		},
	}
}

// Commands, section "Command table".
const (
	ssdCommands = 0x00 // control bytes, section "I2C-bus write data": what follows
	ssdData     = 0x40

	ssdNop     = 0xE3
	ssdOff     = 0xAE
	ssdOn      = 0xAF
	ssdColumns = 0x21
	ssdPages   = 0x22
	ssdBright  = 0x81
)

// ssd1306 is a device of type "ssd1306".
type ssd1306 struct {
	actuator
	params SSD1306Params
	// frame is the picture as the display has it: pages of eight lines, a byte
	// a column, the lowest bit on top.
	frame []byte
	level byte
}

func newSSD1306(p *pool, sim *simulation, params SSD1306Params) (*ssd1306, error) {
	if params.Bus == simBus {
		if sim == nil {
			return nil, errors.New("there is no simulation of this chip")
		}
		sim.attach(params.Address, &ssdModel{})
	}
	d := &ssd1306{params: params, frame: make([]byte, ssdWidth*params.Height/8), level: byte(params.Contrast)}
	d.actuator = actuator{common: params.Common, pool: p, begin: d.start, check: func(ctx context.Context, c *conn) error {
		return d.command(ctx, c, ssdNop)
	}}
	return d, nil
}

// Readings implements devices.Device.
func (d *ssd1306) Readings() []devices.Reading { return nil }

func (d *ssd1306) command(ctx context.Context, c *conn, b ...byte) error {
	return c.write(ctx, append([]byte{ssdCommands}, b...)...)
}

// start follows the flow chart "Software initialization".
func (d *ssd1306) start(ctx context.Context, c *conn) error {
	segments, rows := byte(0xA1), byte(0xC8) // as the boards are mounted
	if d.params.Rotate {
		segments, rows = 0xA0, 0xC0
	}
	pins := byte(0x12)
	if d.params.Height == 32 {
		pins = 0x02
	}
	if err := d.command(ctx, c,
		ssdOff,
		0xD5, 0x80, // clock
		0xA8, byte(d.params.Height-1), // multiplex ratio
		0xD3, 0x00, // offset
		0x40,       // first line
		0x8D, 0x14, // charge pump on
		0x20, 0x00, // horizontal addressing
		segments, rows,
		0xDA, pins,
		ssdBright, d.level,
		0xD9, 0xF1, // pre-charge
		0xDB, 0x40, // VCOMH
		0xA4, 0xA6, // shows its memory, not inverted
	); err != nil {
		return err
	}
	if err := d.show(ctx, c, 0, d.params.Height/8); err != nil {
		return err
	}
	return d.command(ctx, c, ssdOn)
}

// show sends pages of the picture, a transaction each.
func (d *ssd1306) show(ctx context.Context, c *conn, from, to int) error {
	for page := from; page < to; page++ {
		if err := d.command(ctx, c, ssdColumns, 0, ssdWidth-1, ssdPages, byte(page), byte(page)); err != nil {
			return err
		}
		if err := c.write(ctx, append([]byte{ssdData}, d.frame[page*ssdWidth:(page+1)*ssdWidth]...)...); err != nil {
			return err
		}
	}
	return nil
}

func (d *ssd1306) set(x, y int, lit bool) {
	if x < 0 || x >= ssdWidth || y < 0 || y >= d.params.Height {
		return
	}
	at, bit := y/8*ssdWidth+x, byte(1)<<(y%8)
	if d.frame[at] &^= bit; lit {
		d.frame[at] |= bit
	}
}

// change draws, then sends the pages that are different; the caller of the
// procedure waits for it.
func (d *ssd1306) change(ctx context.Context, result any, draw func()) (any, error) {
	return d.act(ctx, func(ctx context.Context, c *conn) (any, error) {
		before := bytes.Clone(d.frame)
		draw()
		for page := range len(d.frame) / ssdWidth {
			at := page * ssdWidth
			if bytes.Equal(before[at:at+ssdWidth], d.frame[at:at+ssdWidth]) {
				continue
			}
			// Not the caller's context: half a picture would stay.
			if err := d.show(context.WithoutCancel(ctx), c, page, page+1); err != nil {
				return nil, err
			}
		}
		return result, nil
	})
}

// The font: 7 by 13 points, and a place between lines where there is room.
const (
	glyphWidth, glyphHeight = 7, 13
	lineHeight              = 16
	lineChars               = ssdWidth / glyphWidth
)

// text draws a line of text.
func (d *ssd1306) text(line int, chars []rune) {
	face := basicfont.Face7x13
	for y := range lineHeight {
		for x := range ssdWidth {
			d.set(x, line*lineHeight+y, false)
		}
	}
	for i, r := range chars {
		_, mask, from, _, ok := face.Glyph(fixed.Point26_6{}, r)
		if !ok {
			continue
		}
		for y := range glyphHeight {
			for x := range face.Width {
				_, _, _, a := mask.At(from.X+x, from.Y+y).RGBA()
				d.set(1+i*glyphWidth+x, line*lineHeight+1+y, a > 0x7FFF)
			}
		}
	}
}

// Procedures implements devices.Device.
func (d *ssd1306) Procedures() []devices.Procedure {
	text, bitmap, clean, dim := ssdText, ssdBitmap, ssdClear, ssdDim
	text.Call = func(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		line, lines := args[0].(int64), int64(d.params.Height/lineHeight)
		if line < 0 || line >= lines {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "text: line must be from 0 to %d, not %d", lines-1, line)
		}
		chars := []rune(strings.Map(printable, cut(args[1].(string))))
		chars = chars[:min(len(chars), lineChars)]
		return d.change(ctx, int64(len(chars)), func() { d.text(int(line), chars) })
	}
	bitmap.Call = func(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		x, y, width, data := args[0].(int64), args[1].(int64), args[2].(int64), args[3].([]byte)
		row := (width + 7) / 8
		switch {
		case width < 1 || width > ssdWidth || x < 0 || x+width > ssdWidth:
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "bitmap: x and width must lie within the %d columns", ssdWidth)
		case len(data) == 0 || int64(len(data))%row != 0:
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "bitmap: data must be whole lines of %d bytes, not %d bytes", row, len(data))
		case y < 0 || y > ssdWidth || y+int64(len(data))/row > int64(d.params.Height):
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "bitmap: the picture must lie within the %d lines", d.params.Height)
		}
		return d.change(ctx, true, func() {
			for i := range int64(len(data)) / row {
				for j := range width {
					d.set(int(x+j), int(y+i), data[i*row+j/8]>>(7-j%8)&1 == 1)
				}
			}
		})
	}
	clean.Call = func(ctx context.Context, _ wamp.List, _ wamp.Dict) (any, error) {
		return d.change(ctx, true, func() { clear(d.frame) })
	}
	dim.Call = func(ctx context.Context, args wamp.List, _ wamp.Dict) (any, error) {
		level := args[0].(int64)
		if level < 0 || level > 255 {
			return nil, wamp.Errorf(wamp.ErrInvalidArgument, "contrast: level must be from 0 to 255, not %d", level)
		}
		return d.act(ctx, func(ctx context.Context, c *conn) (any, error) {
			d.level = byte(level)
			return level, d.command(ctx, c, ssdBright, d.level)
		})
	}
	return []devices.Procedure{text, bitmap, clean, dim}
}

// cut bounds a text before it is looked at.
func cut(s string) string { return s[:min(len(s), 16*lineChars)] }

// printable keeps a character in its place whatever it is.
func printable(r rune) rune {
	if r < ' ' {
		return ' '
	}
	return r
}

// Halt implements devices.Device.
func (d *ssd1306) Halt() error {
	if d.params.Keep {
		return nil
	}
	return d.once(func(ctx context.Context, c *conn) error { return d.command(ctx, c, ssdOff) })
}
