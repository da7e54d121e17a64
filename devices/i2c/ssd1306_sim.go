package i2c

// ssdModel is an SSD1306 by its command table: its memory, where the next byte
// goes, and whether it shows.
type ssdModel struct {
	ram              [8 * ssdWidth]byte
	shows            bool
	contrast         byte
	column, page     int
	columns, pages   [2]int
	rows             int
	horizontal, pump bool
	pending          []byte // a command that waits for its parameters
}

// ssdParameters are how many bytes follow a command, "Command table".
var ssdParameters = map[byte]int{
	0x20: 1, ssdColumns: 2, ssdPages: 2, ssdBright: 1, 0x8D: 1, 0xA8: 1, 0xD3: 1, 0xD5: 1, 0xD9: 1, 0xDA: 1, 0xDB: 1,
}

func (m *ssdModel) write(p []byte) bool {
	switch p[0] {
	case ssdCommands:
		for _, b := range p[1:] {
			m.pending = append(m.pending, b)
			if len(m.pending) > ssdParameters[m.pending[0]] {
				m.execute(m.pending)
				m.pending = nil
			}
		}
	case ssdData:
		for _, b := range p[1:] {
			m.ram[m.page*ssdWidth+m.column] = b
			m.step()
		}
	default:
		return false
	}
	return true
}

// step goes on as in figure "Horizontal addressing mode".
func (m *ssdModel) step() {
	if !m.horizontal {
		return
	}
	if m.column++; m.column > m.columns[1] {
		m.column = m.columns[0]
		if m.page++; m.page > m.pages[1] {
			m.page = m.pages[0]
		}
	}
}

func (m *ssdModel) execute(c []byte) {
	switch c[0] {
	case ssdOff:
		m.shows = false
	case ssdOn:
		m.shows = true
	case ssdBright:
		m.contrast = c[1]
	case 0x20:
		m.horizontal = c[1]&3 == 0
	case ssdColumns:
		m.columns = [2]int{int(c[1] & 0x7F), int(c[2] & 0x7F)}
		m.column = m.columns[0]
	case ssdPages:
		m.pages = [2]int{int(c[1] & 7), int(c[2] & 7)}
		m.page = m.pages[0]
	case 0x8D:
		m.pump = c[1]&4 != 0
	case 0xA8:
		m.rows = int(c[1]&0x3F) + 1
	}
}

func (m *ssdModel) read(p []byte) bool {
	for i := range p {
		p[i] = 0
		if !m.shows {
			p[i] = 0x40 // status, D6
		}
	}
	return true
}

// lit tells a point of the picture.
func (m *ssdModel) lit(x, y int) bool {
	return m.shows && m.pump && y < m.rows && m.ram[y/8*ssdWidth+x]>>(y%8)&1 == 1
}
