package gpio

// SimulatedLine returns what drives a simulated line from outside.
func SimulatedLine(chips *Chips, name string) func(level bool) {
	return chips.board.open(name, LineConfig{}).drive
}
