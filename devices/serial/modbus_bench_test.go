package serial

import (
	"syscall"
	"testing"
	"time"

	"github.com/postern-iot/postern/devices"
)

// nobody listens.
type nobody struct{ n int }

func (*nobody) Ready()                             {}
func (*nobody) Degraded(error)                     {}
func (*nobody) Fault(string, error)                {}
func (o *nobody) Emit(string, any, devices.Sample) { o.n++ }

// BenchmarkModbus200 reads 200 registers in two requests from a simulated unit
// and prints what one reading a second costs of a core, the unit included.
func BenchmarkModbus200(b *testing.B) {
	p := unitParams(1)
	for i := range 200 {
		p.Registers = append(p.Registers, defaults(ModbusRegister{Name: "r" + string(rune('a'+i/26)) + string(rune('a'+i%26)), Table: tableInput, Address: i}))
	}
	s := newSlave()
	s.attach(p)
	pool := newPool(func(*Line) (port, error) { return openSim(s.serve), nil })
	c, release := pool.connect(p)
	defer release()
	out := &nobody{}
	poll := poller{modbus: newModbus(p, pool), conn: c, out: out, groups: plan(p)}
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	begun := cpu()
	for b.Loop() {
		for _, g := range poll.groups {
			if err := poll.poll(b.Context(), g); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(100*float64(cpu()-begun)/float64(b.N)/float64(time.Second), "%core@1Hz")
	if out.n != 200*b.N {
		b.Errorf("%d values of %d readings", out.n, b.N)
	}
}
