package serial

import (
	"bytes"
	"fmt"

	"github.com/postern-iot/postern/devices"
)

// Lines is the driver "serial-lines".
func Lines() devices.Driver {
	return devices.Driver{
		Type:    "serial-lines",
		Summary: "A device on a serial port that speaks in lines: text, CSV, JSON, or anything that a regular expression can read.",
		Doc: "Any microcontroller, meter, scale, weather station or modem that sends lines over RS-232, RS-485 or a USB adapter. " +
			"Every line is taken apart into fields, and each field is a reading. A line of which a field cannot be understood is counted " +
			"in `bad_lines` and not used at all; the device is then degraded until good lines come again. After noise, reading begins anew with the next delimiter.\n\n" +
			"A missing field (an empty column, a JSON null) is no event; NaN is a fault of its reading. An adapter that is unplugged is opened again when it is back: " +
			"name it by its link in `/dev/serial/by-id`, which does not change. The gateway's user must be in the port's group (`dialout`).\n\n" +
			safeDoc + "\n\n" + simDoc,
		Example: "name: weather\ntype: serial-lines\nport: /dev/serial/by-id/usb-Arduino_Uno_55736303831351B0A1C1-if00\nbaud: 115200\n" +
			"format: csv\nseparator: \";\"\ntimeout: 30s\nfields:\n  - name: temperature\n    unit: Cel\n    scale: 0.1\n  - name: humidity\n    unit: \"%\"\n    column: 3\n",
		NewParams:  func() any { return newParams() },
		Readings:   []devices.Reading{badLines},
		Procedures: []devices.Procedure{writeProcedure, transactProcedure},
		Open: func(_ devices.Env, params any) (devices.Device, error) {
			p := *params.(*Params)
			d, err := newDevice(p, func() (port, error) { return p.Line.open(simLines(&p)) })
			if err != nil {
				return nil, err
			}
			return d.guard(), nil
		},
	}
}

func newDevice(p Params, open func() (port, error)) (*device, error) {
	a, err := newParser(&p)
	if err != nil {
		return nil, err
	}
	var safe []byte
	if p.Safe != "" {
		safe = append([]byte(p.Safe), p.delimiter()...)
	}
	return newStream(protocol{
		safe: safe,
		line: &p.Line, noun: "line", text: true, readings: p.readings(), parse: a.parse, longest: p.MaxLine,
		timeout: p.Timeout, writeRate: p.WriteRate,
		framing: func() framing { return &lineFraming{framer{delimiter: p.delimiter(), max: p.MaxLine}} },
		wrap:    func(data []byte) []byte { return append(bytes.Clone(data), p.delimiter()...) },
	}, open), nil
}

// lineFraming is a framer for text.
type lineFraming struct{ framer }

func (f *lineFraming) feed(p []byte, frame func([]byte), bad func(error)) {
	tooLong := f.framer.feed(p, func(line []byte) {
		if string(f.delimiter) == "\n" {
			line = bytes.TrimSuffix(line, []byte("\r"))
		}
		if len(line) > 0 {
			frame(line)
		}
	})
	for range tooLong {
		bad(fmt.Errorf("it is longer than %d bytes", f.max))
	}
}
