package auth

// What only tests look at.
var SignCryptosign = signCryptosign

func AuthMessage(method, authid, clientNonce, nonce, salt string, iterations int) string {
	return dialects[method].authMessage(authid, clientNonce, nonce, salt, iterations, "", nil)
}
