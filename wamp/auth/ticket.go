package auth

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/postern-iot/postern/wamp"
)

// Ticket is the client's end of ticket authentication: it shows the ticket,
// which therefore is as safe as the connection.
func Ticket(ticket string) Client { return ticketClient{plain(MethodTicket), ticket} }

type ticketClient struct {
	plain
	ticket string
}

// Challenge answers with the ticket.
func (c ticketClient) Challenge(*wamp.Challenge) (*wamp.Authenticate, error) {
	return &wamp.Authenticate{Signature: c.ticket, Extra: wamp.Dict{}}, nil
}

// MaxTicket bounds a ticket, in bytes.
const MaxTicket = 4096

// ticketIterations is what guessing a ticket from its hash costs.
const ticketIterations = 60_000

// TicketHash is what a router keeps of a ticket: PBKDF2-SHA256 with a salt.
type TicketHash struct {
	Iterations int
	Salt, Hash []byte
}

// HashTicket hashes a ticket, with a random salt unless one is given.
func HashTicket(ticket string, salt []byte) *TicketHash {
	if salt == nil {
		salt = randomBytes(saltSize)
	}
	h := &TicketHash{Iterations: ticketIterations, Salt: salt}
	h.Hash = h.hash(ticket)
	return h
}

func (h *TicketHash) hash(ticket string) []byte {
	// The error is for key sizes that the standard for it does not allow.
	b, _ := pbkdf2.Key(sha256.New, ticket, h.Salt, h.Iterations, sha256.Size)
	return b
}

// Matches reports whether ticket is the one.
func (h *TicketHash) Matches(ticket string) bool {
	return len(ticket) <= MaxTicket && len(h.Hash) == sha256.Size &&
		subtle.ConstantTimeCompare(h.hash(ticket), h.Hash) == 1
}

// MarshalText writes the stored form.
func (h *TicketHash) MarshalText() ([]byte, error) {
	return fields("pbkdf2", h.Iterations, h.Salt, h.Hash), nil
}

// UnmarshalText reads it.
func (h *TicketHash) UnmarshalText(text []byte) error {
	r := readFields(text)
	kdf := r.text()
	*h = TicketHash{Iterations: r.number(1, maxIterations), Salt: r.bytes(8, 64), Hash: r.bytes(sha256.Size, sha256.Size)}
	r.failed = r.failed || kdf != "pbkdf2"
	return r.done()
}
