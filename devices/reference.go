package devices

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
)

const referenceHead = `<!-- Generated from the driver table: go test ./devices/all -rewrite -->
# Drivers

A device is an entry of the configuration: a name (` + "`a-z`, `0-9`, `_`" + `), a type from the table below, and the type's parameters.

` + "```yaml" + `
devices:
  prefix: device      # every URI below begins with it
  list:
    - {name: relay, type: sim-relay}
` + "```" + `

## What every device has

**Readings** are events. A reading's value is the only positional argument; the keyword arguments are:

| keyword | |
|---|---|
| ` + "`unit`" + ` | in [UCUM](https://ucum.org) where it has one (` + "`Cel`, `%`, `V`" + `), empty for none |
| ` + "`time`" + ` | of the measurement: RFC 3339, UTC, microseconds, always of the same width (` + "`2025-06-01T12:00:00.000000Z`" + `) |
| ` + "`seq`" + ` | counts the reading's values from 1 since the gateway started; a gap is a value that was dropped, or replaced by a newer one while the realm was not to be reached |
| ` + "`quality`" + ` | ` + "`good`; `uncertain` while the device is degraded; `bad` when there is no value: then the argument is null" + ` |
| ` + "`reason`" + ` | why the quality is not good |

A value that is not a finite number, or not of the reading's type, is published as a fault: null with quality ` + "`bad`" + `.
When a device fails, each of its readings becomes one. [readings.md](readings.md) says how values are calibrated, checked, smoothed,
watched and rationed before they are published.

**State** is the retained event ` + "`<prefix>.<device>.status`" + `: the state as argument; as keywords what ` + "`status`" + ` returns.
The states are ` + "`configured`, `opening`, `ready`, `degraded`, `back-off` and `stopped`" + `. A device that fails is put into its
safe state and opened again, after a wait that grows with every failure.

**Procedures** take their arguments by position or by keyword. They stay registered while the device is down, and then
answer ` + "`postern.error.device_unavailable`" + ` with the keywords ` + "`device`, `state` and `reason`" + `. A wrong argument is
` + "`wamp.error.invalid_argument`" + ` with ` + "`argument` and `expected`" + `. ` + "`<prefix>.list`" + ` returns all devices as ` + "`describe`" + ` has them, and every
device answers:

`

const controlText = `
## Who controls an actuator

An actuator goes into its safe state when the gateway stops, when its driver fails, and, if its entry says so, when the
session that commanded it is gone or silent:

` + "```yaml" + `
- name: heater
  type: gpio-output
  pin: GPIO22
  control:
    hold: true     # the session that last called a procedure of this device must stay joined
    lease: 30s     # and must call one, or renew, at least this often
` + "```" + `

The *controller* is the session that last called one of the procedures of the device's type; whoever may call them takes
over by doing so. A device that nobody has commanded yet keeps the state that it started with. The router tells of sessions that
leave, and the gateway asks it once a second whether the controller is still there. After the safe state the device serves on.
A client on a mobile line loses its session when its connection breaks: give it a lease without ` + "`hold`" + ` if it is to survive that.

`

// Reference returns the reference page of the table's drivers, in Markdown.
func Reference(t *Table) []byte {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	writeProcedures(&b, hostProcedures)
	b.WriteString(controlText)
	writeProcedures(&b, controlProcedures)
	b.WriteString("\n## Types\n\n| type | |\n|---|---|\n")
	for i := range t.drivers {
		d := &t.drivers[i]
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", d.Type, d.Type, cell(d.Summary))
	}
	for i := range t.drivers {
		writeDriver(&b, &t.drivers[i])
	}
	return b.Bytes()
}

func writeDriver(b *bytes.Buffer, d *Driver) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n%s\n\n", d.Type, d.Summary, strings.TrimSpace(d.Doc))
	example := strings.ReplaceAll(strings.TrimSpace(d.Example), "\n", "\n  ")
	fmt.Fprintf(b, "```yaml\n- %s\n```\n", example) // an element of devices.list
	b.WriteString("\n### Parameters\n\n| key | type | default | |\n|---|---|---|---|\n")
	walkParams(reflect.ValueOf(d.NewParams()).Elem(), func(p param) {
		def := "`" + p.Default + "`"
		switch {
		case p.Required:
			def = "required"
		case p.Default == "":
			def = ""
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", p.Path, p.Type, def, cell(p.Doc))
	})
	if len(d.Readings) > 0 {
		b.WriteString("\n### Readings\n\n| reading | type | unit | |\n|---|---|---|---|\n")
		for _, r := range d.Readings {
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", r.Name, r.Type, r.Unit, cell(r.Doc))
		}
	}
	if len(d.Procedures) > 0 {
		b.WriteString("\n### Procedures\n\n")
		writeProcedures(b, d.Procedures)
	}
}

func writeProcedures(b *bytes.Buffer, procedures []Procedure) {
	b.WriteString("| procedure | returns | |\n|---|---|---|\n")
	for _, p := range procedures {
		var args, docs []string
		for _, a := range p.Args {
			text := a.Name + " " + a.Type
			if a.Optional {
				text = "[" + text + "]"
			}
			args = append(args, text)
			if a.Doc != "" {
				docs = append(docs, fmt.Sprintf("`%s`: %s", a.Name, a.Doc))
			}
		}
		doc := strings.Join(append([]string{p.Doc}, docs...), "<br>")
		fmt.Fprintf(b, "| `%s(%s)` | %s | %s |\n", p.Name, strings.Join(args, ", "), cell(p.Returns), cell(doc))
	}
}

// cell is text that cannot break out of a cell of a Markdown table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", `\|`)
}
