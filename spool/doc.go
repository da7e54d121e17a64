// Package spool is an append-only log on disk in which messages wait. Each has
// a sequence number and bytes that the package does not look into; it leaves the
// log when it is said to be done.
//
// # The files
//
// A log is a directory of segments, files that are written once, from beginning
// to end, and never again. What is done is written as a record like the data, so
// that nothing is overwritten in place: a record is lost only when its own bytes
// are. record.go has the format, a pure function both ways. Each record has a
// checksum; after a power cut in the middle of a write that record is missing,
// and no other. Damage elsewhere costs the records that it hit; damage to the first
// bytes of all segments, the whole log.
//
// Segments are removed from the oldest on, when nothing in them is wanted any
// more. When one message keeps the oldest segment and the files take more than
// the bound, what is wanted of that segment is written once more at the end.
//
// # What is durable when
//
// Append has written when it returns: the end of the process loses nothing then.
// Sync has the disk keep it: after that a power cut does not, either. An Append
// that fails, for a full disk say, has changed nothing and may be tried again.
//
// A Log may be used by several goroutines, and has none of its own. Sync does
// not keep others waiting.
package spool
