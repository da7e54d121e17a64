package gateway

import (
	"context"
	"net"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/bridge/broker"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/wamp"
)

// newBroker makes the embedded MQTT broker, whose clients are users of the realm
// of the devices.
func (g *Gateway) newBroker() (*broker.Broker, error) {
	return broker.New(g.cfg.MQTT, broker.Host{
		Authority: realmUsers{g}, Names: bridge.NewNaming(bridge.Embedded, g.cfg.Bridge.Maps, g.cfg.URIs()),
		Open: func(address string) (net.Listener, error) { return listenTCP("mqtt", address) },
	}, g.log)
}

// realmUsers is what the broker asks the router.
type realmUsers struct{ *Gateway }

// Admit implements broker.Authority.
func (u realmUsers) Admit(remote net.Addr) (release func(), ok bool) { return u.router.Admit(remote) }

// Authenticate implements broker.Authority.
func (u realmUsers) Authenticate(ctx context.Context, c broker.Claim) (authid, role string, err error) {
	id, err := u.router.Identify(ctx, router.Foreign{
		Realm: u.realm, Protocol: "mqtt", Name: c.Name, Password: c.Password, Remote: c.Remote, TLS: c.TLS, Check: c.Check,
	})
	return id.AuthID, id.AuthRole, err
}

// Publishes implements broker.Authority.
func (u realmUsers) Publishes(role, pattern string, match wamp.Match) bool {
	return u.router.MayPublish(u.realm, role, pattern, match)
}

// Subscribes implements broker.Authority.
func (u realmUsers) Subscribes(role, pattern string, match wamp.Match) bool {
	return u.router.MaySubscribe(u.realm, role, pattern, match)
}
