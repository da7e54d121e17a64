package serial

import (
	"cmp"
	"slices"
	"time"
)

// group is what one request reads: registers of one table that lie near each
// other and are read as often.
type group struct {
	function byte
	start    int
	count    int
	interval time.Duration
	members  []*ModbusRegister
	due      time.Time
	err      error // why its last reading failed
}

var readFunctions = map[string]byte{
	tableCoil: fcReadCoils, tableDiscrete: fcReadDiscreteInputs, tableHolding: fcReadHolding, tableInput: fcReadInput,
}

func (r *ModbusRegister) readFunction() byte { return readFunctions[r.Table] }

// plan merges registers into groups, within the limits of the parameters.
func plan(p *ModbusParams) []*group {
	var all []*ModbusRegister
	for i := range p.Registers {
		if r := &p.Registers[i]; r.reads() {
			all = append(all, r)
		}
	}
	interval := func(r *ModbusRegister) time.Duration { return cmp.Or(r.Interval, p.Interval) }
	slices.SortStableFunc(all, func(a, b *ModbusRegister) int {
		return cmp.Or(cmp.Compare(a.readFunction(), b.readFunction()), cmp.Compare(interval(a), interval(b)),
			cmp.Compare(a.Address, b.Address), cmp.Compare(a.words(), b.words()))
	})
	var groups []*group
	for _, r := range all {
		most, gap := p.MaxRead, p.MaxGap
		if r.coil() { // 16 of them are as long as a register
			most, gap = min(maxReadBits, 16*most), 16*gap
		}
		end := r.Address + r.words()
		if n := len(groups); n > 0 {
			g := groups[n-1]
			if g.function == r.readFunction() && g.interval == interval(r) &&
				r.Address <= g.start+g.count+gap && max(g.count, end-g.start) <= most {
				g.count = max(g.count, end-g.start)
				g.members = append(g.members, r)
				continue
			}
		}
		groups = append(groups, alone(r, interval(r)))
	}
	return groups
}

func alone(r *ModbusRegister, interval time.Duration) *group {
	return &group{function: r.readFunction(), start: r.Address, count: r.words(), interval: interval, members: []*ModbusRegister{r}}
}

// split makes a group of each member.
func (g *group) split() []*group {
	groups := make([]*group, len(g.members))
	for i, r := range g.members {
		groups[i] = alone(r, g.interval)
	}
	return groups
}

// value decodes a member out of what was read.
func (g *group) value(r *ModbusRegister, data []byte) (any, error) {
	at := r.Address - g.start
	if r.coil() { // the first one is in the lowest bit (protocol, 6.1)
		return data[at/8]>>(at%8)&1 == 1, nil
	}
	return r.decode(slices.Clone(data[2*at : 2*(at+r.words())]))
}
