package i2c

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// picture is a part of the display.
func (m *ssdModel) picture(x, y, w, h int) string {
	var b strings.Builder
	for j := range h {
		for i := range w {
			if m.lit(x+i, y+j) {
				b.WriteByte('#')
			} else {
				b.WriteByte('.')
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestSSD1306(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation()
		m := &ssdModel{}
		sim.attach(0x3C, m)
		dev := newBench(t, sim).open("ssd1306", func(p any) { p.(*SSD1306Params).Height = 32 })
		call := func(proc int, args ...any) (any, error) { return dev.Procedures()[proc].Call(t.Context(), args, nil) }
		if _, err := call(2); err == nil {
			t.Error("a call before Run")
		}
		r := start(t, dev)
		time.Sleep(time.Millisecond)
		r.expect("ready")
		if !m.shows || !m.pump || m.rows != 32 || m.contrast != 0xCF {
			t.Errorf("have %+v", m)
		}
		if n, err := call(0, int64(1), "T!"); err != nil || n != int64(2) {
			t.Errorf("have %v, %v", n, err)
		}
		const want = "" +
			"...............\n" +
			"...............\n" +
			"...............\n" +
			".#####....#....\n" +
			"...#......#....\n" +
			"...#......#....\n" +
			"...#......#....\n" +
			"...#......#....\n" +
			"...#......#....\n" +
			"...#......#....\n" +
			"...#...........\n" +
			"...#......#....\n" +
			"...............\n"
		if have := m.picture(1, 16, 15, 13); have != want {
			t.Errorf("have\n%s", have)
		}
		if n, err := call(0, int64(0), strings.Repeat("x", 1000)+"é\x00"); err != nil || n != int64(18) {
			t.Errorf("a long text: have %v, %v", n, err)
		}
		if _, err := call(1, int64(120), int64(24), int64(3), []byte{0xA0, 0x40, 0xA0}); err != nil {
			t.Error(err)
		}
		if have := m.picture(120, 24, 4, 4); have != "#.#.\n.#..\n#.#.\n....\n" {
			t.Errorf("have\n%s", have)
		}
		for _, bad := range [][]any{
			{0, int64(2), "x"},
			{0, int64(-1), "x"},
			{1, int64(126), int64(0), int64(3), []byte{0}},
			{1, int64(0), int64(0), int64(9), []byte{0}},
			{1, int64(0), int64(31), int64(8), []byte{0, 0}},
			{1, int64(0), int64(1) << 62, int64(8), []byte{0}},
			{1, int64(1) << 62, int64(0), int64(8), []byte{0}},
			{3, int64(256)},
		} {
			if _, err := call(bad[0].(int), bad[1:]...); err == nil {
				t.Errorf("%v is taken", bad)
			}
		}
		if v, err := call(3, int64(7)); err != nil || v != int64(7) || m.contrast != 7 {
			t.Errorf("have %v, %v, %d", v, err, m.contrast)
		}

		// Unplugged, plugged in: the picture and the brightness come back.
		before := m.picture(0, 0, 128, 32)
		sim.mu.Lock()
		delete(sim.chips, 0x3C)
		sim.mu.Unlock()
		if err := <-r.result; err == nil || !isNACK(err) {
			t.Errorf("have %v", err)
		}
		again := &ssdModel{}
		sim.attach(0x3C, again)
		r = start(t, dev)
		r.expect("ready")
		if again.picture(0, 0, 128, 32) != before || again.contrast != 7 {
			t.Errorf("the picture is gone:\n%s", again.picture(0, 0, 128, 32))
		}
		if _, err := call(2); err != nil || strings.Contains(again.picture(0, 0, 128, 32), "#") {
			t.Errorf("not clear: %v", err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if err := dev.Halt(); err != nil || again.shows {
			t.Errorf("halted: %v, shows %v", err, again.shows)
		}
	})
}
