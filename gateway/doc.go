// Package gateway puts the parts together and runs them: router, devices,
// bridge, embedded broker and HTTP. It owns the listeners, the order in which
// things start and stop, and the health report.
//
// Starting: every address is bound before anything else happens, so that a
// gateway that runs already is noticed before a pin is touched. Then the
// router, the MQTT broker, the bridge and the devices start; clients are
// served once the actuators are in their safe state.
//
// Stopping, each step with its own bound, all together within five seconds:
// health says stopping and no more clients are accepted; the devices withdraw
// their procedures, put their actuators into the safe state and publish their
// last states; the bridge flushes and says offline; the MQTT broker ends; the
// router says GOODBYE to every session; HTTP ends. A second signal puts the
// actuators into their safe state at once and leaves the rest.
//
// Goroutines: one per task and one per stage of tasks (task.go); Run waits for
// all of them, each no longer than its stage's bound. A task that breaks, by a
// panic too, is logged and shown as a problem while the others go on, except
// for the listeners and the router, without which there is no gateway.
//
// The package has no knowledge of protocols or hardware, and nobody but the
// command line imports it.
package gateway
