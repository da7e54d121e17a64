package serial

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/wamp"
)

// unitLine is a line of simulated units whose answers a test may tamper with.
type unitLine struct {
	*slave
	mu     sync.Mutex
	tamper func(request, answer []byte) [][]byte // nil for the answer as it is
	asked  []string
	opened int
}

func newUnitLine() *unitLine { return &unitLine{slave: newSlave()} }

func (u *unitLine) pool() *pool {
	return newPool(func(*Line) (port, error) {
		u.opened++
		return openSim(u.serve), nil
	})
}

func (u *unitLine) serve(far net.Conn) {
	var buf [512]byte
	for {
		n, err := far.Read(buf[:])
		if err != nil {
			return
		}
		answer := u.answer(buf[:n])
		u.mu.Lock()
		u.asked = append(u.asked, fmt.Sprintf("%X", buf[:n-2]))
		tamper := u.tamper
		u.mu.Unlock()
		pieces := [][]byte{answer}
		if tamper != nil {
			pieces = tamper(buf[:n], answer)
		}
		for _, p := range pieces {
			if p == nil {
				time.Sleep(30 * time.Millisecond)
				continue
			}
			if _, err := far.Write(p); err != nil {
				return
			}
		}
	}
}

func (u *unitLine) set(tamper func(request, answer []byte) [][]byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tamper, u.asked = tamper, nil
}

func (u *unitLine) requests() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := strings.Join(u.asked, " ")
	u.asked = nil
	return s
}

func unitParams(unit int, registers ...ModbusRegister) *ModbusParams {
	p := newModbusParams()
	p.Port, p.Unit, p.Baud, p.Interval = "/dev/ttyS0", unit, 115200, time.Second
	for i := range registers {
		r := defaults(registers[i])
		if r.Name == "" {
			r.Name = fmt.Sprintf("r%d", i)
		}
		p.Registers = append(p.Registers, r)
	}
	return p
}

func ptr[T any](v T) *T { return &v }

// unitRun is a unit's device that runs.
type unitRun struct {
	*outlet
	*modbus
	stop   func()
	result chan error
}

func (u *unitLine) run(t *testing.T, pool *pool, p *ModbusParams) *unitRun {
	t.Helper()
	r := &unitRun{outlet: newOutlet(), modbus: newModbus(p, pool), result: make(chan error, 1)}
	ctx, cancel := contextOf(t)
	r.stop = func() {
		cancel()
		if err := <-r.result; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	go func() { r.result <- r.Run(ctx, r.outlet) }()
	synctest.Wait()
	return r
}

func TestModbusReadsAndWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnitLine()
		p := unitParams(
			7,
			ModbusRegister{Name: "voltage", Table: tableInput, Address: 0, Type: "f32", Order: "CDAB"},
			ModbusRegister{Name: "limit", Address: 16, Type: "i16", Scale: 0.1, Access: accessReadWrite, Min: ptr(-5.0), Max: ptr(32.0), Verify: true, Safe: ptr(0.0)},
			ModbusRegister{Name: "relay", Table: tableCoil, Address: 3, Access: accessReadWrite, Safe: ptr(0.0)},
			ModbusRegister{Name: "reset", Address: 99, Access: accessWrite, Multiple: true},
			ModbusRegister{Name: "total", Address: 40, Type: "u32", Access: accessReadWrite},
		)
		u.attach(p)
		pool := u.pool()
		r := u.run(t, pool, p)
		time.Sleep(100 * time.Millisecond)
		if have := r.take(); have != "ready relay=false limit=-5 total=104 voltage=100" {
			t.Errorf("%s", have)
		}
		for _, c := range []struct {
			name string
			arg  any
			want any
			sent string
			say  string
		}{
			{"set_limit", 21.53, 21.5, "0706001000D7 070300100001", "limit=21.5"},
			{"set_relay", true, true, "07050003FF00", ""},
			{"set_reset", int64(1), int64(1), "0710006300010200" + "01", ""},
			{"set_total", int64(70000), int64(70000), "0710002800020400011170", ""},
		} {
			u.requests()
			v, err := call(t, r.modbus, c.name, c.arg)
			if have := u.requests(); err != nil || v != c.want || have != c.sent {
				t.Errorf("%s: %v, %v; sent %s", c.name, v, err, have)
			}
			if have := r.take(); have != c.say {
				t.Errorf("%s: said %q", c.name, have)
			}
		}
		for _, v := range []float64{-5.1, 32.1} {
			if _, err := call(t, r.modbus, "set_limit", v); !isURI(err, wamp.ErrInvalidArgument) {
				t.Errorf("set_limit %v: %v", v, err)
			}
		}
		if v, err := call(t, r.modbus, "read", "holding", int64(16), int64(2)); err != nil || fmt.Sprint(v) != "map[values:[215 0]]" {
			t.Errorf("read: %v, %v", v, err)
		}
		if v, err := call(t, r.modbus, "read", "coil", int64(3)); err != nil || fmt.Sprint(v) != "map[values:[1]]" {
			t.Errorf("read: %v, %v", v, err)
		}
		for _, args := range [][]any{{"holdings", int64(1)}, {"holding", int64(-1)}, {"holding", int64(0), int64(126)}, {"holding", int64(65535), int64(2)}} {
			if _, err := call(t, r.modbus, "read", args...); !isURI(err, wamp.ErrInvalidArgument) {
				t.Errorf("read %v: %v", args, err)
			}
		}
		_, err := call(t, r.modbus, "read", "holding", int64(5000))
		e := new(wamp.Error)
		if !errors.As(err, &e) || e.URI != ErrModbusException || e.KwArgs["code"] != int64(2) || e.KwArgs["unit"] != int64(7) {
			t.Errorf("read of what is not there: %v", err)
		}
		time.Sleep(time.Second)
		if have := r.take(); !strings.Contains(have, "relay=true limit=21.5 total=70000") {
			t.Errorf("%s", have)
		}
		// Its controller is gone: the safe values, and it serves on.
		u.requests()
		if err := (actuator{r.modbus}).Release(); err != nil {
			t.Error(err)
		}
		if have := u.requests(); have != "070600100000 070300100001 070500030000" {
			t.Errorf("release sent %s", have)
		}
		if v, err := call(t, r.modbus, "set_relay", true); err != nil || v != true {
			t.Errorf("set after release: %v, %v", v, err)
		}
		// The unit does not keep what is written.
		u.set(func(request, answer []byte) [][]byte {
			if request[1] == fcWriteRegister {
				return [][]byte{request}
			}
			answer[4] ^= 1
			return [][]byte{appendRTU(nil, answer[0], answer[1:len(answer)-2])}
		})
		if _, err := call(t, r.modbus, "set_limit", 1.0); err == nil || !strings.Contains(err.Error(), "has not taken") {
			t.Errorf("not taken: %v", err)
		}
		u.set(nil)
		r.stop()
		if err := r.Halt(); err != nil {
			t.Error(err)
		}
		if have := u.requests(); !strings.HasSuffix(have, "070600100000 070300100001 070500030000") {
			t.Errorf("halt sent %s", have)
		}
		if _, err := call(t, r.modbus, "set_relay", true); !isURI(err, wamp.ErrUnavailable) {
			t.Errorf("set while it does not run: %v", err)
		}
		if len(pool.ports) != 0 {
			t.Error("the port is still open")
		}
	})
}

func isURI(err error, uri string) bool {
	e := new(wamp.Error)
	return errors.As(err, &e) && string(e.URI) == uri
}

// What happens on a line: each is a tampering with the first answer, and what
// the device makes of it.
func TestModbusTrouble(t *testing.T) {
	mutated := func(a []byte) []byte { a[4] ^= 0x10; return a }
	for _, c := range []struct {
		name   string
		first  func(request, answer []byte) [][]byte
		events string
		asked  int
	}{
		{"noise before", func(_, a []byte) [][]byte { return [][]byte{append([]byte{0, 0xFF, 0x07}, a...)} }, "r0=100", 1},
		{"in pieces", func(_, a []byte) [][]byte { return [][]byte{a[:1], nil, a[1:4], nil, a[4:]} }, "r0=100", 1},
		{"another unit's before", func(_, a []byte) [][]byte {
			return [][]byte{appendRTU(nil, 9, a[1:len(a)-2]), nil, nil, nil, a}
		}, "r0=100", 1},
		{"checksum, then good", func(_, a []byte) [][]byte { return [][]byte{mutated(a)} }, "r0=100", 2},
		{"cut short, then good", func(_, a []byte) [][]byte { return [][]byte{a[:len(a)-2]} }, "r0=100", 2},
		{"silent, then good", func(_, _ []byte) [][]byte { return nil }, "r0=100", 2},
		{"noise, then good", func(_, _ []byte) [][]byte { return [][]byte{{1, 2, 3}} }, "r0=100", 2},
		{
			"busy", func(_, a []byte) [][]byte { return [][]byte{appendRTU(nil, 7, []byte{0x84, 6})} },
			"fault:r0 degraded(unit 7 refuses function 4 with exception 6, server device busy: the unit is busy with something longer, try again later)", 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUnitLine()
				p := unitParams(7, ModbusRegister{Table: tableInput})
				u.attach(p)
				r := u.run(t, u.pool(), p)
				time.Sleep(500 * time.Millisecond)
				if have := r.take(); have != "ready r0=100" {
					t.Fatalf("%s", have)
				}
				first := true
				u.set(func(request, answer []byte) [][]byte {
					if first {
						first = false
						return c.first(request, answer)
					}
					return [][]byte{answer}
				})
				time.Sleep(1400 * time.Millisecond)
				if have := r.take(); have != c.events {
					t.Errorf("%s", have)
				}
				if have := u.requests(); len(strings.Fields(have)) != c.asked {
					t.Errorf("asked %s", have)
				}
				time.Sleep(2 * time.Second)
				if have := r.take(); !strings.HasSuffix(have, "r0=100") {
					t.Errorf("later: %s", have)
				}
				r.stop()
			})
		})
	}
}

// An answer that comes after its timeout is not taken for that to the next
// request, which has the same length.
func TestModbusLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnitLine()
		p := unitParams(7, ModbusRegister{Name: "a", Address: 0, Access: accessReadWrite}, ModbusRegister{Name: "b", Address: 500, Access: accessReadWrite})
		p.Retries, p.Timeout = 0, 200*time.Millisecond
		u.attach(p)
		r := u.run(t, u.pool(), p)
		time.Sleep(500 * time.Millisecond)
		if have := r.take(); have != "ready a=100 b=101" {
			t.Fatalf("%s", have)
		}
		late := true
		u.set(func(request, answer []byte) [][]byte {
			if late {
				late = false
				time.Sleep(250 * time.Millisecond)
			}
			return [][]byte{answer}
		})
		time.Sleep(time.Second)
		if have := r.take(); strings.Contains(have, "b=100") || !strings.Contains(have, "fault:a") || !strings.Contains(have, "b=101") {
			t.Errorf("%s", have)
		}
		time.Sleep(2 * time.Second)
		r.stop()
	})
}

// A unit that is away costs its neighbours no more than its timeout, is given
// up after three failures, and its neighbours go on.
func TestModbusSilentUnit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnitLine()
		well, away := unitParams(1, ModbusRegister{}), unitParams(2, ModbusRegister{})
		well.Interval = 100 * time.Millisecond
		u.attach(well)
		u.attach(away)
		pool := u.pool()
		a, b := u.run(t, pool, well), u.run(t, pool, away)
		time.Sleep(50 * time.Millisecond)
		u.slave.mu.Lock()
		delete(u.units, 2)
		u.slave.mu.Unlock()
		var longest time.Duration
		for range 400 {
			before := time.Now()
			for a.take() == "" {
				time.Sleep(5 * time.Millisecond)
			}
			longest = max(longest, time.Since(before))
		}
		if longest > well.Interval+away.Timeout+20*time.Millisecond {
			t.Errorf("a neighbour waited %v", longest)
		}
		err := <-b.result
		if err == nil || !strings.Contains(err.Error(), "unit 2 on /dev/ttyS0: no answer within 500ms") {
			t.Errorf("Run: %v", err)
		}
		if have := b.take(); strings.Count(have, "fault:r0") != maxFailures-1 {
			t.Errorf("%s", have)
		}
		// It is not there when it begins: that is said at once.
		b = u.run(t, pool, away)
		if err := <-b.result; err == nil || b.take() != "" {
			t.Errorf("%v", err)
		}
		a.stop()
		if u.opened != 1 {
			t.Errorf("the port was opened %d times", u.opened)
		}
	})
}

// A unit that does not have what lies between two registers is asked for each.
func TestModbusSplitsGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUnitLine()
		p := unitParams(1, ModbusRegister{Address: 0}, ModbusRegister{Address: 4}, ModbusRegister{Address: 5})
		u.attach(p)
		u.set(func(request, answer []byte) [][]byte {
			if request[5] > 1 {
				return [][]byte{appendRTU(nil, 1, []byte{0x83, 2})}
			}
			return [][]byte{answer}
		})
		r := u.run(t, u.pool(), p)
		time.Sleep(500 * time.Millisecond)
		if have := r.take(); have != "ready r0=100 r1=101 r2=102" {
			t.Errorf("%s", have)
		}
		if have := u.requests(); have != "010300000006 010300000001 010300040001 010300050001" {
			t.Errorf("asked %s", have)
		}
		r.stop()
	})
}

func TestModbusPortFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := unitParams(1, ModbusRegister{Access: accessReadWrite, Safe: ptr(0.0)})
		m := newModbus(p, newPool(func(*Line) (port, error) { return nil, syscall.ENOENT }))
		if err := m.Run(t.Context(), newOutlet()); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("Run: %v", err)
		}
		if err := m.Halt(); !errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "safe value of r0") {
			t.Errorf("Halt: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		u := newUnitLine()
		p := unitParams(1, ModbusRegister{})
		u.attach(p)
		var far net.Conn
		r := u.run(t, newPool(func(*Line) (port, error) {
			return openSim(func(c net.Conn) { far = c; u.serve(c) }), nil
		}), p)
		time.Sleep(100 * time.Millisecond)
		far.Close()
		if err := <-r.result; err == nil || !strings.Contains(err.Error(), "unplugged") {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestModbusValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ModbusParams)
		want   string
	}{
		{"well", func(*ModbusParams) {}, ""},
		{"line", func(p *ModbusParams) {
			p.Port, p.Baud, p.DataBits, p.RS485 = "ttyS0", 1, 7, &RS485{SendLevel: "up", Before: 1}
		}, "port baud rs485.send_level rs485.before data_bits"},
		{"numbers", func(p *ModbusParams) {
			p.Unit, p.Retries, p.MaxRead, p.MaxGap, p.WriteRate, p.Interval, p.Timeout, p.Gap = 248, 6, 126, -1, 0, 1, 1, -1
		}, "unit retries max_read max_gap write_rate interval timeout gap"},
		{"none", func(p *ModbusParams) { p.Registers = nil }, "registers"},
		{"twice", func(p *ModbusParams) { p.Registers = append(p.Registers, p.Registers[0]) }, "registers[1].name"},
		{"table", func(p *ModbusParams) { p.Registers[0].Table = "x" }, "registers[0].table"},
		{"address", func(p *ModbusParams) { p.Registers[0].Address, p.Registers[0].Type = 65535, "u32" }, "registers[0].address"},
		{"bit", func(p *ModbusParams) { p.Registers[0].Bit = ptr(16) }, "registers[0].bit"},
		{"scale", func(p *ModbusParams) { p.Registers[0].Scale = 0 }, "registers[0].scale"},
		{"text", func(p *ModbusParams) { p.Registers[0].Type = typeString }, "registers[0].length"},
		{"length", func(p *ModbusParams) { p.Registers[0].Length = 1 }, "registers[0].length"},
		{"coil", func(p *ModbusParams) { p.Registers[0].Table, p.Registers[0].Unit = tableCoil, "V" }, "registers[0]"},
		{"write without access", func(p *ModbusParams) { p.Registers[0].Min = ptr(0.0) }, "registers[0].access"},
		{"write an input", func(p *ModbusParams) { p.Registers[0].Table, p.Registers[0].Access = tableInput, accessReadWrite }, "registers[0].access"},
		{"verify what is only written", func(p *ModbusParams) { p.Registers[0].Access, p.Registers[0].Verify = accessWrite, true }, "registers[0].verify"},
		{"limits", func(p *ModbusParams) {
			p.Registers[0].Access, p.Registers[0].Min, p.Registers[0].Max = accessWrite, ptr(2.0), ptr(1.0)
		}, "registers[0].min"},
		{"safe", func(p *ModbusParams) { p.Registers[0].Access, p.Registers[0].Safe = accessWrite, ptr(-1.0) }, "registers[0].safe"},
	} {
		p := unitParams(1, ModbusRegister{})
		c.change(p)
		var all []string
		p.Validate(func(path, problem, _ string) { all = append(all, path) })
		if have := strings.Join(all, " "); have != c.want {
			t.Errorf("%s: %q", c.name, have)
		}
	}
}

// Units share a line if they set it alike, nobody else has it, and no unit is
// there twice; a link and what it leads to are one line.
func TestModbusClaims(t *testing.T) {
	dir := t.TempDir()
	link := dir + "/by-id"
	if err := syscall.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	one, two, again, fast := unitParams(1, ModbusRegister{}), unitParams(2, ModbusRegister{}), unitParams(1, ModbusRegister{}), unitParams(3, ModbusRegister{})
	one.Port, two.Port, again.Port, fast.Port = "/dev/null", link, link, "/dev/null"
	fast.Baud = 9600
	text := textParams()
	text.Port = link
	entries := []devices.Entry{{Name: "one", Params: one}, {Name: "two", Params: two}, {Name: "again", Params: again}, {Name: "fast", Params: fast}, {Name: "text", Params: &text}}
	var have []string
	for _, c := range devices.CheckClaims(entries) {
		have = append(have, fmt.Sprintf("%d-%d %s%s", c.First, c.Second, c.Claim, c.Differ()))
	}
	want := "0-2 modbus:/dev/null/unit 1\n0-3 serial:/dev/null, the first for Modbus at 115200 8-none-1, the second for Modbus at 9600 8-none-1\n0-4 serial:/dev/null"
	if s := strings.Join(have, "\n"); s != want {
		t.Errorf("have\n%s\nwant\n%s", s, want)
	}
}

func TestModbusTableRow(t *testing.T) {
	if _, err := devices.NewTable(Lines(), Modbus()); err != nil {
		t.Error(err)
	}
	d := Modbus()
	p := unitParams(4, ModbusRegister{Name: "a"})
	p.Port = simPort
	dev, err := d.Open(devices.Env{}, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextOf(t)
	o, result := newOutlet(), make(chan error, 1)
	go func() { result <- dev.Run(ctx, o) }()
	if have := o.until(t, "a=100"); have != "ready a=100" {
		t.Errorf("%s", have)
	}
	cancel()
	if err := <-result; err != nil {
		t.Error(err)
	}
}
