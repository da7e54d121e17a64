// Package router gives realms to the network: it accepts connections, takes
// them through the handshake, and moves messages between them and the pure
// state machine of package realm.
//
// Locks. Each realm has one mutex, held across a step and across the pushes of
// its effects into outboxes, which never block; that is what keeps WAMP's
// order. No I/O, log or callback happens under it. Each outbox has a mutex of
// its own, taken after the realm's.
//
// Goroutines. Attach runs one session on the goroutine that called it, which
// reads and steps. What the steps put into outboxes, the session's own and
// others', that goroutine sends as well, before it waits for its client again,
// as far as that goes without waiting. A session has a writer, a goroutine of its
// own, only while more is to be sent than its client takes at once, and at its
// end; Attach returns when that is done. Who sends is settled by the claim on
// the outbox (type outbox). Serve has one goroutine for each connection besides
// its caller's, Handler one for each WebSocket, Local one for each session. Each
// realm has one that tells it when a call's time is over, and one sweeper ends
// sessions that have stopped reading; and closing a connection that is stuck
// takes a goroutine for that moment. Shutdown ends and awaits them all.
//
// The package never looks into arguments, never decodes them, and never blocks
// one session for another: what does not fit into a session's outbox is
// dropped (events, counted), refused (calls), or ends that session.
//
// It is larger than most packages: session, outbox, handshake and listeners
// hold each other, and none of them is of use without the rest.
package router
