package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// ErrInvalidConfiguration is the URI of errors that say what is wrong with a
// configuration.
const ErrInvalidConfiguration = "postern.error.invalid_configuration"

// servicesTask offers the gateway's own procedures in the services realm.
func (g *Gateway) servicesTask() Task {
	return newTask("services", func(ctx context.Context, ready func()) error {
		s, err := client.Join(ctx, g.dialInto(ServicesRealm, "postern", router.RoleTrusted), client.Config{
			Realm:     ServicesRealm,
			Reconnect: &client.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second, Jitter: 0.3},
			Log:       g.log.With("session", "services"),
		})
		if err != nil {
			return fmt.Errorf("join the realm %s: %w", ServicesRealm, err)
		}
		for uri, procedure := range g.services() {
			if _, err = s.Register(ctx, uri, procedure); err != nil {
				err = fmt.Errorf("register %s: %w", uri, err)
				break
			}
		}
		if err == nil {
			ready()
			<-ctx.Done()
		}
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 200*time.Millisecond)
		defer cancel()
		return errors.Join(err, s.Close(bound))
	})
}

// services are the gateway's own procedures.
func (g *Gateway) services() map[string]client.Procedure {
	answer := func(values ...any) (*client.Result, error) { return client.Return(values...), nil }
	return map[string]client.Procedure{
		"postern.reload": func(context.Context, *client.Invocation) (*client.Result, error) {
			done, err := g.Reload()
			if err != nil {
				return nil, wamp.Errorf(ErrInvalidConfiguration, "%v", err)
			}
			return answer(done.dict())
		},
		"postern.health": func(context.Context, *client.Invocation) (*client.Result, error) {
			return answer(g.healthDict())
		},
		"postern.realm.list": func(context.Context, *client.Invocation) (*client.Result, error) {
			stats := g.router.Stats()
			all := wamp.Dict{}
			for name, st := range stats.Realms {
				all[name] = wamp.Dict{"sessions": st.Sessions, "subscriptions": st.Subscriptions, "registrations": st.Registrations}
			}
			return answer(all)
		},
		"postern.realm.create": func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
			c, err := readRealm(inv)
			if err == nil {
				err = g.createRealm(*c)
			}
			if err != nil {
				return nil, wamp.Errorf(ErrInvalidConfiguration, "%v", err)
			}
			return answer()
		},
		"postern.realm.remove": func(_ context.Context, inv *client.Invocation) (*client.Result, error) {
			var name string
			if len(inv.Args) == 1 {
				name, _ = inv.Args[0].(string)
			}
			there, err := g.removeRealm(name)
			switch {
			case err != nil:
				return nil, wamp.Errorf(ErrInvalidConfiguration, "%v", err)
			case !there:
				return nil, wamp.Errorf(wamp.ErrNoSuchRealm, "no realm %.200q has been created here; those of the configuration go with its file", name)
			}
			return answer()
		},
	}
}

// readRealm reads a realm from an invocation's one argument, a dictionary like
// an entry of realms.
func readRealm(inv *client.Invocation) (*router.RealmConfig, error) {
	if len(inv.Args) != 1 {
		return nil, errors.New("the argument must be one dictionary, like an entry of realms")
	}
	text, err := codec.JSON.AppendValue(nil, wamp.Dict{"realms": []any{inv.Args[0]}})
	if err != nil {
		return nil, err
	}
	return config.ParseRealm(text)
}

func (d *Reloaded) dict() wamp.Dict {
	restart := wamp.List{}
	for _, s := range d.Restart {
		restart = append(restart, wamp.Dict{"path": s.Path, "at": s.At})
	}
	return wamp.Dict{
		"added": list(d.Added), "removed": list(d.Removed), "changed": list(d.Changed),
		"ended": d.Ended, "restart": restart,
	}
}

// healthDict is the health report, as /healthz has it.
func (g *Gateway) healthDict() wamp.Dict {
	h := g.Health()
	problems := wamp.List{}
	for _, p := range h.Problems {
		problems = append(problems, wamp.Dict{"part": p.Part, "state": p.State, "reason": p.Reason})
	}
	return wamp.Dict{"status": h.State, "version": h.Version, "uptime_s": h.Uptime, "problems": problems}
}

func list(names []string) wamp.List {
	all := wamp.List{}
	for _, n := range names {
		all = append(all, n)
	}
	return all
}
