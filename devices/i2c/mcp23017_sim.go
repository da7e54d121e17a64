package i2c

// mcp23017Model is an MCP23017 by its registers, with IOCON.BANK 0 and SEQOP 0:
// levels from outside, latches, and interrupts on change.
type mcp23017Model struct {
	mem     [mcpCount]byte
	ptr     byte
	outside uint16         // levels that are put on the lines; the pull-ups where nothing is
	driven  uint16         // lines that something outside drives
	before  uint16         // levels that the interrupts compare with
	irq     func(low bool) // nil, or INTA
}

func newMCP23017Model() *mcp23017Model {
	m := &mcp23017Model{}
	m.mem[mcpIODIR], m.mem[mcpIODIR+1] = 0xFF, 0xFF
	return m
}

func (m *mcp23017Model) get(reg int) uint16 { return both(m.mem[:], reg) }

func (m *mcp23017Model) put(reg int, v uint16) {
	m.mem[reg], m.mem[reg+1] = byte(v), byte(v>>8)
}

// levels are those of the lines.
func (m *mcp23017Model) levels() uint16 {
	in := m.outside&m.driven | m.get(mcpGPPU)&^m.driven
	dir := m.get(mcpIODIR)
	return in&dir | m.get(mcpOLAT)&^dir
}

// drive puts a level on a line from outside.
func (m *mcp23017Model) drive(line int, high bool) {
	mask := uint16(1) << line
	m.driven |= mask
	if m.outside &^= mask; high {
		m.outside |= mask
	}
	m.look()
}

// look raises an interrupt for what has changed; the levels at the first one
// are captured until they are read.
func (m *mcp23017Model) look() {
	now := m.levels()
	changed := (now ^ m.before) & m.get(mcpGPINTEN) & m.get(mcpIODIR)
	if changed != 0 && m.get(mcpINTF) == 0 {
		m.put(mcpINTF, changed)
		m.put(mcpINTCAP, now)
		if m.irq != nil {
			m.irq(true)
		}
	}
	m.before = now
}

func (m *mcp23017Model) write(p []byte) bool {
	m.ptr = p[0]
	for _, v := range p[1:] {
		switch {
		case m.ptr >= mcpCount:
		case m.ptr >= mcpINTF && m.ptr < mcpGPIO: // read-only
		case m.ptr == mcpGPIO, m.ptr == mcpGPIO+1: // writes the latch
			m.mem[m.ptr-mcpGPIO+mcpOLAT] = v
		case m.ptr == mcpIOCON, m.ptr == mcpIOCON+1: // one register at two addresses
			m.mem[mcpIOCON], m.mem[mcpIOCON+1] = v, v
		default:
			m.mem[m.ptr] = v
		}
		m.step()
	}
	m.look()
	return true
}

func (m *mcp23017Model) step() { m.ptr = (m.ptr + 1) % mcpCount }

func (m *mcp23017Model) read(p []byte) bool {
	for i := range p {
		if m.ptr == mcpGPIO || m.ptr == mcpGPIO+1 {
			m.put(mcpGPIO, m.levels())
			defer func() { // both ports of one reading
				m.put(mcpINTF, 0)
				if m.irq != nil {
					m.irq(false)
				}
			}()
		}
		p[i] = m.mem[m.ptr%mcpCount]
		m.step()
	}
	return true
}
