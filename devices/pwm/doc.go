// Package pwm has the drivers of the kernel's PWM channels (/sys/class/pwm):
// "pwm" for a duty cycle, as of a lamp or a fan, and "servo" for the position of
// a model servo. The pulses are the hardware's: the package never makes any by
// switching a line, which a process on Linux cannot do in time.
//
// With "chip: sim" the drivers work on channels inside the process that keep
// the kernel's rules.
//
// Goroutines: none of its own; the drivers live on the one that the host gives
// to Run. The package touches a channel first in Halt or Run, and never
// unexports it: what it does goes on when the process has ended, as with a line.
package pwm
