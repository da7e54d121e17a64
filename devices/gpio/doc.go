// Package gpio has the drivers of digital lines, "gpio-input", "gpio-output",
// "gpio-counter" and "gpio-encoder", and what they stand on: Line, a line of the
// kernel's GPIO character device (uAPI v2) that implements periph's gpio.PinIO
// and adds what actuators and counters need beyond it: an initial output level
// without a glitch, bias, open drain, active-low, the kernel's debounce, and
// edges with kernel timestamps, sequence numbers and a count of those lost.
// Chips that the kernel does not know are added by other drivers (Chips).
//
// Lines are found by the name that the kernel gives them ("GPIO17") or by their
// place on the 40-pin header ("P1-11"), never by the number of the chip, which
// changes between kernels and boards.
//
// With "chip: sim" the same drivers work on simulated wires inside the process:
// an output and an input of the same pin are joined, and an input can be driven
// by its "simulate" procedure.
//
// Goroutines: none of its own, but two of an encoder whose lines cannot be
// waited for together, which end before its Run. A wait for an edge ends when
// its deadline passes or when In, Out, Halt or Close is called. The drivers live
// on the goroutine that the host gives to Run.
//
// The package never touches a line before Run (or Halt) of its device, never
// changes a line's direction to read it, and never releases an output that it
// has driven: the kernel gives the line back when the process ends.
//
// It is larger than most: the four drivers share the lines, their simulation and
// their parameters.
package gpio
