// Package wamp holds the nouns of the WAMP v2 protocol: messages, their
// options and details, IDs, URIs and patterns, error URIs, and Payload, the
// application's arguments as raw bytes of one serialization.
//
// It does no I/O, starts no goroutine and knows no serialization: those are
// wamp/codec and wamp/transport. Section numbers in comments refer to the WAMP
// specification (wamp-proto, rfc/text/basic and rfc/text/advanced).
package wamp
