package i2c

// pcaModel is a PCA9685 by its register map: what is written where, with the
// restrictions of the data sheet.
type pcaModel struct {
	mem [256]byte
	ptr byte
}

// pcaAllLED is the first of four registers, which the kernel's driver writes.
const pcaAllLED = 0xFA

func newPCA9685Model() *pcaModel {
	m := &pcaModel{}
	m.mem[pcaMode1], m.mem[pcaMode2], m.mem[pcaPrescale] = 0x11, 0x04, 0x1E
	for ch := range 16 {
		m.mem[pcaLED0+4*ch+3] = pcaFull
	}
	return m
}

func (m *pcaModel) step() {
	if m.mem[pcaMode1]&pcaAuto != 0 {
		m.ptr++
	}
}

func (m *pcaModel) write(p []byte) bool {
	m.ptr = p[0]
	for _, v := range p[1:] {
		if m.ptr != pcaPrescale || m.mem[pcaMode1]&pcaSleep != 0 { // "writes to PRE_SCALE are blocked when SLEEP is 0"
			m.mem[m.ptr] = v
		}
		if all := m.ptr - pcaAllLED; all < 4 && m.ptr >= pcaAllLED { // "ALL_LED": loads those of all channels
			for ch := range byte(16) {
				m.mem[pcaLED0+4*ch+all] = v
			}
		}
		m.step()
	}
	return true
}

func (m *pcaModel) read(p []byte) bool {
	for i := range p {
		p[i] = m.mem[m.ptr]
		m.step()
	}
	return true
}

// output is how long a channel is on, of 4096 steps.
func (m *pcaModel) output(ch int) int {
	led := m.mem[pcaLED0+4*ch:][:4]
	switch {
	case m.mem[pcaMode1]&pcaSleep != 0, led[3]&pcaFull != 0: // full off wins
		return 0
	case led[1]&pcaFull != 0:
		return pcaSteps
	}
	on, gone := int(led[0])|int(led[1]&0x0F)<<8, int(led[2])|int(led[3]&0x0F)<<8
	return (gone - on + pcaSteps) % pcaSteps
}
