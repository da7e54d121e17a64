package serial

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/postern-iot/postern/devices"
)

// ModbusParams are the parameters of a "modbus-rtu": one unit on a line.
type ModbusParams struct {
	Line      `yaml:",inline"`
	Unit      int              `yaml:"unit" required:"true" doc:"the unit's address on the line, 1 to 247"`
	Interval  time.Duration    `yaml:"interval" doc:"time between two readings of a register"`
	Timeout   time.Duration    `yaml:"timeout" doc:"how long an answer may take to begin and end, beyond its request's time on the line; a unit that is silent holds up the others on its line for no longer"`
	Retries   int              `yaml:"retries" doc:"how often a request without a good answer is sent again; other units have their turn in between"`
	Gap       time.Duration    `yaml:"gap" doc:"how long the line is kept quiet between two frames; 0s for what the specification says, 3.5 characters and no less than 1.75ms"`
	Echo      bool             `yaml:"echo" doc:"the adapter receives what it sends itself"`
	MaxRead   int              `yaml:"max_read" doc:"the most registers that one request asks for (coils: 16 times as many), 1 to 125"`
	MaxGap    int              `yaml:"max_gap" doc:"how many registers that nobody wants are read along to save a request; a unit that refuses them is asked for each register by itself from then on"`
	WriteRate int              `yaml:"write_rate" doc:"writes in a second; more are refused"`
	Registers []ModbusRegister `yaml:"registers" required:"true" doc:"what the unit has: readings, and procedures that write"`
}

// ModbusRegister is one value of the unit.
type ModbusRegister struct {
	Name     string        `yaml:"name" required:"true" doc:"the reading's name: a-z, 0-9 and _; set_<name> is the procedure that writes it"`
	Table    string        `yaml:"table" doc:"coil, discrete (input), holding or input (register)"`
	Address  int           `yaml:"address" required:"true" doc:"the address in the request, from 0: a manual's 40001 is 0 in holding, 30001 is 0 in input, 10001 is 0 in discrete, and 00001 is 0 in coil"`
	Type     string        `yaml:"type" doc:"for registers: u16, i16, u32, i32, u64, i64, f32, f64 or string; coils and discrete inputs are true or false"`
	Order    string        `yaml:"order" doc:"how the bytes of a value lie in its registers: ABCD (the high word first and its high byte first, as the specification has it), CDAB (the low word first), BADC (the low byte of each word first) or DCBA; for 64 bits alike"`
	Bit      *int          `yaml:"bit" doc:"for u16: this one bit, 0 to 15, as true or false"`
	Length   int           `yaml:"length" doc:"for string: how many registers it has"`
	Scale    float64       `yaml:"scale" doc:"what the number is multiplied by"`
	Offset   float64       `yaml:"offset" doc:"what is then added"`
	Unit     string        `yaml:"unit" doc:"the unit of the value, in UCUM where it has one"`
	Doc      string        `yaml:"doc" doc:"what it is"`
	Interval time.Duration `yaml:"interval" doc:"time between two readings of this one; 0s for the device's"`
	Access   string        `yaml:"access" doc:"read, read-write or write"`
	Min      *float64      `yaml:"min" doc:"the least that may be written, after scaling"`
	Max      *float64      `yaml:"max" doc:"the most that may be written"`
	Verify   bool          `yaml:"verify" doc:"read it back after writing: the procedure fails if the unit has not taken it"`
	Multiple bool          `yaml:"multiple" doc:"write with the function for many (15, 16) even if it is one"`
	Safe     *float64      `yaml:"safe" doc:"what is written when the gateway starts, stops or has failed with this device: for coils 0 or 1"`
}

// SetDefaults is called before the configuration is read.
func (r *ModbusRegister) SetDefaults() {
	*r = ModbusRegister{Table: tableHolding, Type: "u16", Order: "ABCD", Scale: 1, Access: accessRead}
}

const (
	tableCoil     = "coil"
	tableDiscrete = "discrete"
	tableHolding  = "holding"
	tableInput    = "input"

	accessRead      = "read"
	accessReadWrite = "read-write"
	accessWrite     = "write"

	typeString = "string"

	maxModbusRegisters = 512
	maxStringLength    = 60
	maxUnit            = 247 // serial line, 2.2
	minInterval        = 10 * time.Millisecond
)

var (
	tables     = []string{tableCoil, tableDiscrete, tableHolding, tableInput}
	orders     = []string{"ABCD", "CDAB", "BADC", "DCBA"}
	accesses   = []string{accessRead, accessReadWrite, accessWrite}
	wordTypes  = []string{"u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", typeString}
	wordCounts = map[string]int{"u16": 1, "i16": 1, "u32": 2, "i32": 2, "f32": 2, "u64": 4, "i64": 4, "f64": 4}
)

func newModbusParams() *ModbusParams {
	return &ModbusParams{
		Line: newLine(), Interval: 10 * time.Second, Timeout: 500 * time.Millisecond, Retries: 1,
		MaxRead: maxReadRegisters, MaxGap: 8, WriteRate: 20,
	}
}

// gap is the silence between two frames (serial line, 2.5.1.1).
func (p *ModbusParams) gap() time.Duration {
	if p.Gap > 0 {
		return p.Gap
	}
	return max(1750*time.Microsecond, 35*11*time.Second/10/time.Duration(max(1, p.Baud)))
}

// Claims implements devices.Claimer: the unit is this device's own.
func (p *ModbusParams) Claims() []string {
	if p.Port == simPort {
		return nil
	}
	return []string{fmt.Sprintf("modbus:%s/unit %d", canonicalPort(p.Port), p.Unit)}
}

// Shares implements devices.Sharer: the port is for all units on it, who must
// agree how it is set.
func (p *ModbusParams) Shares() (claim, terms string) {
	if p.Port == simPort {
		return "", ""
	}
	terms = fmt.Sprintf("Modbus at %d %d-%s-%d", p.Baud, p.DataBits, p.Parity, p.StopBits)
	if p.RS485 != nil {
		terms += fmt.Sprintf(" with rs485 %+v", *p.RS485)
	}
	return "serial:" + canonicalPort(p.Port), terms
}

// Validate implements devices.Validator.
func (p *ModbusParams) Validate(report func(path, problem, hint string)) {
	p.Line.check(report)
	if p.DataBits >= 5 && p.DataBits < 8 {
		report("data_bits", "Modbus RTU has 8", "write 8, or nothing")
	}
	number := func(path string, v, lo, hi int) {
		if v < lo || v > hi {
			report(path, fmt.Sprintf("%d is out of range", v), fmt.Sprintf("write a number from %d to %d", lo, hi))
		}
	}
	duration := func(path string, v, lo, hi time.Duration) {
		if v < lo || v > hi {
			report(path, fmt.Sprintf("%v is out of range", v), fmt.Sprintf("write a duration from %v to %v", lo, hi))
		}
	}
	number("unit", p.Unit, 1, maxUnit)
	number("retries", p.Retries, 0, 5)
	number("max_read", p.MaxRead, 1, maxReadRegisters)
	number("max_gap", p.MaxGap, 0, maxReadRegisters-1)
	number("write_rate", p.WriteRate, 1, maxWriteRate)
	duration("interval", p.Interval, minInterval, 24*time.Hour)
	duration("timeout", p.Timeout, 10*time.Millisecond, 10*time.Second)
	duration("gap", p.Gap, 0, time.Second)
	if n := len(p.Registers); n < 1 || n > maxModbusRegisters {
		report("registers", fmt.Sprintf("there are %d", n), fmt.Sprintf("list 1 to %d", maxModbusRegisters))
	}
	seen := map[string]bool{}
	for i := range p.Registers {
		r, path := &p.Registers[i], fmt.Sprintf("registers[%d]", i)
		if problem := devices.NameProblem(r.Name); problem != "" || len(r.Name) > 60 {
			report(path+".name", fmt.Sprintf("%q cannot be a reading's name", r.Name), "use a-z, 0-9 and _, at most 60 of them")
		} else if seen[r.Name] {
			report(path+".name", fmt.Sprintf("%q is there already", r.Name), "")
		}
		seen[r.Name] = true
		if r.Interval != 0 {
			duration(path+".interval", r.Interval, minInterval, 24*time.Hour)
		}
		r.check(path, p.MaxRead, report)
	}
}

func (r *ModbusRegister) check(path string, maxRead int, report report) {
	choice := func(key, v string, of []string) bool {
		ok := slices.Contains(of, v)
		if !ok {
			report(path+"."+key, fmt.Sprintf("%q is not known", v), "write one of "+strings.Join(of, ", "))
		}
		return ok
	}
	if !choice("table", r.Table, tables) || !choice("type", r.Type, wordTypes) || !choice("order", r.Order, orders) || !choice("access", r.Access, accesses) {
		return
	}
	switch {
	case r.Type == typeString && (r.Length < 1 || r.Length > maxStringLength):
		report(path+".length", fmt.Sprintf("%d is out of range", r.Length), fmt.Sprintf("say how many registers the text has, 1 to %d", maxStringLength))
		return
	case r.Type != typeString && r.Length != 0:
		report(path+".length", "it is for the type string only", "")
	case !r.coil() && r.words() > maxRead:
		report(path+".type", fmt.Sprintf("it has %d registers, but max_read is %d", r.words(), maxRead), "")
	}
	if r.Address < 0 || r.Address+r.words() > 1<<16 {
		report(path+".address", fmt.Sprintf("%d is out of range", r.Address), "addresses are from 0 to 65535; a manual's 40001 is address 0 of the table holding")
	}
	if r.Bit != nil && (*r.Bit < 0 || *r.Bit > 15 || r.Type != "u16" || r.coil()) {
		report(path+".bit", fmt.Sprintf("bit %d is not possible here", *r.Bit), "bits 0 to 15 are those of a register of type u16")
	}
	if r.coil() && (r.Type != "u16" || r.Scale != 1 || r.Offset != 0 || r.Unit != "") {
		report(path, "a coil or discrete input is true or false", "leave away type, scale, offset and unit")
	}
	for key, v := range map[string]float64{"scale": r.Scale, "offset": r.Offset} {
		if math.IsNaN(v) || math.IsInf(v, 0) || key == "scale" && v == 0 {
			report(path+"."+key, fmt.Sprintf("it is %v", v), "write a finite number, for scale not 0")
		} else if (r.kind() == "bool" || r.Type == typeString) && !r.coil() && (key == "scale" && v != 1 || key == "offset" && v != 0) {
			report(path+"."+key, "it is for numbers only", "")
		}
	}
	r.checkWrite(path, report)
}

func (r *ModbusRegister) checkWrite(path string, report report) {
	if !r.writes() {
		if r.Min != nil || r.Max != nil || r.Verify || r.Multiple || r.Safe != nil {
			report(path+".access", "min, max, verify, multiple and safe are for what is written", "write access: read-write, or leave them away")
		}
		return
	}
	switch {
	case r.Table == tableDiscrete || r.Table == tableInput:
		report(path+".access", "the table "+r.Table+" can only be read", "what can be written is in coil and holding")
	case r.Bit != nil:
		report(path+".access", "a single bit of a register cannot be written", "write the register as a whole")
	case r.Type == typeString && (r.Safe != nil || r.Min != nil || r.Max != nil):
		report(path+".type", "min, max and safe are for numbers", "")
	case r.Access == accessWrite && r.Verify:
		report(path+".verify", "what is only written cannot be read back", "write access: read-write")
	case r.Min != nil && r.Max != nil && !(*r.Min <= *r.Max):
		report(path+".min", "it is above max", "")
	}
	if r.Safe != nil && r.Type != typeString {
		if _, err := r.encode(r.number(*r.Safe)); err != nil {
			report(path+".safe", fmt.Sprintf("%v cannot be written: %s", *r.Safe, reason(err)), "")
		}
	}
}

// number is v as what encode takes.
func (r *ModbusRegister) number(v float64) any {
	if r.coil() && (v == 0 || v == 1) {
		return v == 1
	}
	return v
}

func (r *ModbusRegister) coil() bool   { return r.Table == tableCoil || r.Table == tableDiscrete }
func (r *ModbusRegister) reads() bool  { return r.Access != accessWrite }
func (r *ModbusRegister) writes() bool { return r.Access != accessRead }

// words is how many coils or registers it has.
func (r *ModbusRegister) words() int {
	switch {
	case r.coil():
		return 1
	case r.Type == typeString:
		return r.Length
	}
	return wordCounts[r.Type]
}

// kind is the type of the reading.
func (r *ModbusRegister) kind() string {
	switch {
	case r.coil(), r.Bit != nil:
		return "bool"
	case r.Type == typeString:
		return "string"
	case r.Type[0] == 'f', r.Scale != 1, r.Offset != 0:
		return "float"
	}
	return "int"
}
