package auth

// Anonymous is the client's end of joining without an identity, for a client
// that would rather have one but does without.
func Anonymous() Client { return plain(MethodAnonymous) }
