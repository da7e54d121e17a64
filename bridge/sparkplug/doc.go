// Package sparkplug is an edge node of Eclipse Sparkplug B: the payloads, and the
// order of births, data and deaths. It knows neither MQTT's connections nor the
// realm.
//
// It is pure: no I/O, no goroutine, and the time is an argument. What it reads is
// bounded. Payloads are written and read by hand: the subset of the protobuf
// definition that an edge node needs is small, and a protobuf runtime is not.
//
// Source: Sparkplug 3.0.0, https://sparkplug.eclipse.org/specification/; tck-…
// are the names of its assertions.
package sparkplug
