package broker

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// user is one of the broker's own users.
type user struct {
	password [32]byte // its SHA-256
	role     string
}

// owner is whose a client identifier is, and what those may do who use it.
type owner struct {
	name  string // "" for anonymous
	role  string
	conns int // connections under way with the identifier
}

// authTimeout bounds authentication, waiting after failures included.
const authTimeout = 10 * time.Second

// errLongName refuses identifiers that no log and no file should have to hold.
var errLongName = errors.New("client identifier or user name of more than 256 bytes")

// OnConnect bounds what a client asks for.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	if len(cl.ID) > 256 || len(pk.Connect.Username) > 256 {
		return errLongName
	}
	if most := uint16(h.broker.cfg.MaxKeepAlive / time.Second); most > 0 && (cl.State.Keepalive == 0 || cl.State.Keepalive > most) {
		cl.State.Keepalive, cl.State.ServerKeepalive = most, true
	}
	return nil
}

// OnConnectAuthenticate decides who may connect.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	reason := h.admit(cl, pk)
	if reason == "" {
		return true
	}
	h.refused.Add(1)
	h.tell("refused", "mqtt client refused", "reason", reason, "client", cl.ID, "remote", cl.Net.Remote, "total", h.refused.Load())
	return false
}

// admit finds out who a client is, and reserves its identifier for it; else it
// says why not.
func (h *hook) admit(cl *mqtt.Client, pk packets.Packet) string {
	p, ok := cl.Net.Conn.(*peer)
	if !ok || cl.ID == mqtt.InlineClientId {
		return "the client identifier is the broker's own" // it would take its place
	}
	if _, known := h.broker.server.Clients.Get(cl.ID); !known && h.broker.server.Clients.Len() > h.broker.cfg.MaxClients {
		return "too many sessions"
	}
	name, role, reason := h.identify(p, pk)
	if reason != "" {
		return reason
	}
	if cl.Properties.Will.Flag != 0 {
		will := cl.Properties.Will.TopicName
		if !mqtt.IsValidFilter(will, true) || !h.mayPublish(role, will) {
			h.denied.Add(1)
			return "it may not publish its last will"
		}
	}
	if !h.own(cl.ID, name, role) {
		return "the client identifier is another user's"
	}
	p.leave, p.abandon = func() { h.disown(cl.ID) }, func() { h.abandon(cl) }
	cl.Properties.Username = []byte(name)
	if ws, ok := p.Conn.(interface{ SetReadLimit(bytes int) }); ok {
		ws.SetReadLimit(h.broker.cfg.MaxPacket + packetHeader)
	}
	return ""
}

// identify says who is at the other end of a connection.
func (h *hook) identify(p *peer, pk packets.Packet) (name, role, refused string) {
	name = string(pk.Connect.Username)
	state := p.tls()
	shown := state != nil && len(state.PeerCertificates) > 0
	cfg := &h.broker.cfg
	users := len(h.users) > 0 || cfg.RealmUsers
	if p.listener.anonymous && !shown && (name == "" || !users) {
		return "", cfg.AnonymousRole, ""
	}
	if name == "" && !shown {
		return "", "", "no user name"
	}
	u, ours := h.users[name]
	right := func() bool {
		got := sha256.Sum256(pk.Connect.Password)
		return subtle.ConstantTimeCompare(u.password[:], got[:]) == 1 && ours
	}
	authority := h.broker.host.Authority
	if authority == nil {
		if !right() {
			return "", "", "wrong user name or password"
		}
		return name, u.role, ""
	}
	claim := Claim{Name: name, Password: string(pk.Connect.Password), Remote: p.RemoteAddr(), TLS: state}
	if ours {
		claim.Check = right
	}
	ctx, cancel := context.WithTimeout(context.Background(), authTimeout)
	defer cancel()
	authid, role, err := authority.Authenticate(ctx, claim)
	switch {
	case err == nil && ours:
		return name, u.role, ""
	case err == nil && role == everything: // which is nobody's in a realm
		return "", "", "the user has no role"
	case err == nil:
		return authid, role, ""
	case p.listener.anonymous && name == "":
		return "", cfg.AnonymousRole, "" // its certificate is nobody's
	}
	return "", "", err.Error()
}

// own reserves a client identifier for a user; false when it is another's.
func (h *hook) own(id, name, role string) bool {
	h.sessions.Lock()
	defer h.sessions.Unlock()
	o := h.owners[id]
	if o == nil {
		o = &owner{name: name}
		h.owners[id] = o
	}
	if o.name != name {
		return false
	}
	o.role = role
	o.conns++
	return true
}

// disown ends a connection's use of an identifier, which is free again when no
// session is kept under it.
func (h *hook) disown(id string) {
	_, kept := h.broker.server.Clients.Get(id)
	h.sessions.Lock()
	defer h.sessions.Unlock()
	o := h.owners[id]
	if o.conns--; o.conns == 0 && !kept {
		delete(h.owners, id)
	}
}

// roleOf is what the owner of an identifier may do; false for nobody's.
func (h *hook) roleOf(id string) (string, bool) {
	h.sessions.RLock()
	defer h.sessions.RUnlock()
	if o := h.owners[id]; o != nil {
		return o.role, true
	}
	return "", false
}

// abandon ends a client over which the library has panicked as the library ends
// one that breaks off: its last will is published, and nothing of it is kept.
func (h *hook) abandon(cl *mqtt.Client) {
	server := h.broker.server
	if now, ok := server.Clients.Get(cl.ID); !ok || now != cl {
		return // not in yet, or another connection has its place
	}
	if will := cl.Properties.Will; will.Flag != 0 {
		if err := server.Publish(will.TopicName, will.Payload, will.Retain, will.Qos); err != nil {
			h.tell("will", "a last will is not published", "client", cl.ID, "topic", will.TopicName, "error", err)
		}
		h.OnWillSent(cl, packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: will.Retain, Qos: will.Qos},
			TopicName:   will.TopicName, Payload: will.Payload,
		})
	}
	cl.ClearInflights()
	server.UnsubscribeClient(cl)
	server.Clients.Delete(cl.ID)
}

// OnClientExpired forgets whose the session was, and what the library leaves of
// it.
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	cl.ClearInflights()
	h.broker.server.UnsubscribeClient(cl)
	h.sessions.Lock()
	defer h.sessions.Unlock()
	if o := h.owners[cl.ID]; o != nil && o.conns == 0 {
		delete(h.owners, cl.ID)
	}
}

// OnSessionEstablish takes from a session that is resumed what its owner may
// not have any more.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	before, ok := h.broker.server.Clients.Get(cl.ID)
	if !ok {
		return
	}
	for _, pk := range before.State.Inflight.GetAll(false) {
		if pk.FixedHeader.Type == packets.Publish && !h.OnACLCheck(cl, pk.TopicName, false) {
			before.State.Inflight.Delete(pk.PacketID)
		}
	}
}

// OnACLCheck decides whether a client may publish to a topic, subscribe to a
// filter, or be sent what is published to a topic. "$" topics are the broker's
// own.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	role, allowed := h.roleOf(cl.ID)
	switch {
	case write && topic == "": // an alias, which OnPublish looks at
	case write:
		allowed = allowed && h.mayPublish(role, topic)
	default:
		allowed = allowed && topic != "" && h.broker.host.may(role, unshared(topic), false)
	}
	if !allowed {
		h.denied.Add(1)
	}
	return allowed
}

func (h *hook) mayPublish(role, topic string) bool {
	return topic != "" && topic[0] != '$' && h.broker.host.may(role, topic, true)
}

// unshared is the filter of a shared subscription (MQTT 5, 4.8.2), and any other
// itself.
func unshared(filter string) string {
	if mqtt.IsSharedFilter(filter) {
		_, filter, _ = strings.Cut(filter, "/")
		_, filter, _ = strings.Cut(filter, "/")
	}
	return filter
}

// OnWill drops a last will that its client may not publish any more, and keeps
// retained ones within the bounds.
func (h *hook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	if role, known := h.roleOf(cl.ID); !known || !h.mayPublish(role, will.TopicName) {
		h.denied.Add(1)
		return mqtt.Will{}, nil // nobody may have the empty topic
	}
	if will.Retain && !h.keep(packets.Packet{TopicName: will.TopicName, Payload: will.Payload}) {
		h.unkept.Add(1)
		will.Retain = false
	}
	return will, nil
}

// pace has a client wait that publishes faster than it may; false when the
// broker ends meanwhile.
func (h *hook) pace(cl *mqtt.Client) bool {
	p, ok := cl.Net.Conn.(*peer)
	rate := h.broker.cfg.MaxRate
	if !ok || rate == 0 {
		return true
	}
	now := time.Now()
	// A second's worth may come at once.
	p.next = later(p.next, now.Add(-time.Second)).Add(time.Second / time.Duration(rate))
	wait := p.next.Sub(now)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.broker.stop:
		return false
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
