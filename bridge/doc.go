// Package bridge carries messages between MQTT brokers and the realm, both
// ways, as a mapping table says.
//
// # What it owns
//
//   - Config: brokers and maps, as the config file has them, and their rules.
//   - Table: the mapping itself, pure: which topic is which URI, whether and
//     how a payload crosses. Names are escaped reversibly; what cannot be said
//     on the other side is dropped and counted, never guessed.
//   - calls: procedures that devices answer, and commands that call procedures.
//     Their messages go past the queues: they are worth something now or never.
//   - Task: one broker. It has a WAMP session of its own (so that what comes
//     from one broker reaches the others) and one connection to the broker at
//     a time, behind the interface Broker: bridge/paho implements it for
//     brokers on the network, bridge/broker for the one embedded in the gateway.
//   - finder: devices of the fleet that describe themselves, as devices of the
//     realm. It has one prefix registration for all their procedures.
//   - edge: a Sparkplug edge node, with a session and a connection of its own.
//   - Bridge: all tasks, their status as events and procedures.
//
// # Order, acknowledgement, loss
//
// Towards MQTT a task keeps a bounded queue, with a lane for each map, and on
// disk when it must (package spool). Messages of QoS 1 and 2 wait in it while
// the broker is away, are sent in the order of their lane within a window, and
// leave it when the broker has acknowledged them and all sent before them; after
// a loss everything from the first unacknowledged one is sent again. That is at
// least once, in order for each map, with no more duplicates than the window has
// room for. QoS 0 is dropped while the broker is away. Towards WAMP a message of
// QoS 1 or 2 is acknowledged to the broker when the realm has taken it, in the
// order of arrival; QoS 2 is therefore at least once as well. Every drop is
// counted by its reason.
//
// # Loops
//
// A task never sees its own publications: the realm excludes the publisher, and
// brokers that know the bridge bit do the same. On others a task remembers what
// it has sent and swallows the echo. Maps that would send a message around
// through two entries for the same broker are refused when they are loaded;
// circles that a third party closes are noticed by their speed, and cut.
//
// # Goroutines
//
// Bridge.Run starts one goroutine per task, one per edge node, which has one that
// asks for the devices and one that carries out commands, and one that publishes the status,
// and waits for them. A command from MQTT has a goroutine until its timeout at
// most; their number is bounded, and Task.Run waits for them. Task.Run is the supervisor of its connection; it starts
// one goroutine that publishes what arrived from MQTT, one that watches the
// session, one that syncs the queue's disk, those of announcer and finder, and one sender per connection. It waits for them, too; but a sender
// that the network blocks may outlive its connection by the adapter's write
// timeout, and a Run that ends waits a second for it: the queue does not listen
// to it any more. The handlers that the session and the adapter call only
// enqueue.
//
// The package never logs a payload, never blocks the router, and imports no
// MQTT library.
//
// It is larger than other packages because table, codecs, queue and task share
// their types and nothing else needs them; each is a file or two.
package bridge
