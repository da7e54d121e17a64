//go:build system

package test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/postern-iot/postern/wamp"
	wampclient "github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

const fleetSite = `
listen: {http: "127.0.0.1:%[2]d", rawsocket: "127.0.0.1:%[3]d"}
realms: [{name: realm1, anonymous: full}]
state_dir: %[4]s
mqtt: {enabled: false}
bridge:
  brokers:
    - {name: plant, client_id: gw, urls: "tcp://127.0.0.1:%[1]d", keepalive: 2s, in_flight: 50, reconnect: {min: 20ms, max: 200ms}}
  maps:
    - {name: in, direction: in, mqtt: "in/{x}", wamp: "site.in.{x}"}
    - {name: out, direction: out, mqtt: "out/{x}", wamp: "site.out.{x}", durable: true}
`

// plant is a gateway and a broker, either of which can be killed, with 500
// messages a second both ways.
type plant struct {
	t       *testing.T
	dir     string
	http    int
	raw     int
	broker  *process
	gateway *process
	port    int
	door    *door // between the two
}

// door lets the gateway in to the broker when the devices are back: a broker
// keeps nothing for those that are not there yet.
type door struct {
	ln   net.Listener
	open sync.RWMutex // held for writing while the door is shut
}

func openDoor(t *testing.T, target string) *door {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{ln: ln}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				d.open.RLock()
				up, err := net.Dial("tcp", target)
				d.open.RUnlock()
				if err != nil {
					return
				}
				defer up.Close()
				go func() {
					defer up.Close()
					io.Copy(up, c)
				}()
				io.Copy(c, up)
			}()
		}
	}()
	return d
}

func (d *door) port() int { return d.ln.Addr().(*net.TCPAddr).Port }

func newPlant(t *testing.T) *plant {
	p := &plant{t: t, dir: t.TempDir(), http: freePort(t), raw: freePort(t), port: freePort(t)}
	p.door = openDoor(t, fmt.Sprintf("127.0.0.1:%d", p.port))
	p.write("gateway.yaml", fmt.Sprintf(fleetSite, p.door.port(), p.http, p.raw, filepath.Join(p.dir, "state")))
	p.write("mosquitto.conf", fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nlog_type error\n", p.port))
	return p
}

func (p *plant) write(name, text string) {
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plant) startBroker() {
	p.broker = spawn(p.t, "/usr/sbin/mosquitto", "-c", filepath.Join(p.dir, "mosquitto.conf"))
	listens(p.t, fmt.Sprintf("127.0.0.1:%d", p.port))
}

func (p *plant) startGateway() {
	p.gateway = spawn(p.t, posternBinary, "run", "-c", filepath.Join(p.dir, "gateway.yaml"))
}

// kill ends a process as kill -9 does.
func kill(p *process) {
	p.cmd.Process.Kill()
	<-p.done
}

// join is a WAMP session that joins again whenever the gateway is back.
func (p *plant) join() *wampclient.Session {
	p.t.Helper()
	listens(p.t, fmt.Sprintf("127.0.0.1:%d", p.raw))
	dial := func(ctx context.Context) (transport.Conn, error) {
		return transport.Dial(ctx, fmt.Sprintf("rs://127.0.0.1:%d", p.raw), codec.CBOR, transport.DialOptions{})
	}
	s, err := wampclient.Join(p.t.Context(), dial, wampclient.Config{
		Log:   slog.New(slog.DiscardHandler),
		Realm: "realm1", Reconnect: &wampclient.Backoff{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond}, EventBuffer: 64 << 20,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.Close(ctx)
	})
	return s
}

// device connects to the broker, as soon as it is there.
func (p *plant) device(id string, subscribe func(mqtt.Message)) mqtt.Client {
	o := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", p.port)).SetAutoReconnect(false).SetClientID(id)
	o.SetConnectTimeout(time.Second)
	for {
		c := mqtt.NewClient(o)
		if token := c.Connect(); token.WaitTimeout(patience) && token.Error() == nil {
			if subscribe == nil {
				return c
			}
			// QoS 0: what the broker acknowledges to the gateway is on its way to
			// the device already when it is killed.
			if token := c.Subscribe("out/#", 0, func(_ mqtt.Client, m mqtt.Message) { subscribe(m) }); token.WaitTimeout(patience) && token.Error() == nil {
				return c
			}
		}
		select {
		case <-p.t.Context().Done():
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tally is the numbers that arrived at one end.
type tally struct {
	mu         sync.Mutex
	seen       map[int]bool
	highest    int // of those seen
	duplicates int
	unordered  int // that came for the first time after a higher one
}

func newTally() *tally { return &tally{seen: map[int]bool{}, highest: -1} }

func (a *tally) add(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		a.unordered++
	case a.seen[n]:
		a.duplicates++
	case n < a.highest:
		a.unordered++
	}
	a.seen[n] = true
	a.highest = max(a.highest, n)
}

func (a *tally) has(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[n]
}

func (a *tally) missing(n int) (out int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range n {
		if !a.seen[i] {
			out++
		}
	}
	return out
}

const (
	kills     = 20
	perSecond = 500
	killEvery = 500 * time.Millisecond
)

// eachTick calls f with 0, 1, 2, … at 500 a second, and catches up after f was
// held up, until stop; it returns how many.
func eachTick(stop <-chan struct{}, f func(i int)) int {
	began := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-stop:
			return i
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * perSecond); i < due; i++ {
			f(i)
		}
	}
}

// TestBrokerKilledTwentyTimes: events go out at QoS 1 while the broker is
// killed again and again, and messages come in.
func TestBrokerKilledTwentyTimes(t *testing.T) {
	p := newPlant(t)
	p.startBroker()
	p.startGateway()
	sess := p.join()
	out, in := newTally(), newTally()
	subscribe(t, sess, in)
	p.awaitOnline(sess)

	stop := make(chan struct{})
	var senders sync.WaitGroup
	var sent, said int
	senders.Go(func() {
		sent = eachTick(stop, func(i int) {
			if err := sess.Publish(t.Context(), "site.out.x", wamp.List{int64(i)}, nil, wampclient.Acknowledge()); err != nil {
				t.Errorf("publish %d: %v", i, err)
			}
		})
	})
	receiver := p.device("receiver", func(m mqtt.Message) { out.add(string(m.Payload())) })
	talker := p.device("talker", nil)
	var talking sync.Mutex
	senders.Go(func() {
		said = eachTick(stop, func(i int) {
			// A device that waits for PUBACK and says it again to the next broker.
			// What the broker acknowledged and had in memory is lost with it; such a
			// device cannot know, so it says again what did not arrive.
			for !in.has(i) {
				talking.Lock()
				c := talker
				talking.Unlock()
				if token := c.Publish("in/x", 1, false, strconv.Itoa(i)); !token.WaitTimeout(time.Second) || token.Error() != nil {
					<-time.After(5 * time.Millisecond)
					continue
				}
				for wait := 0; wait < 200 && !in.has(i); wait++ {
					<-time.After(500 * time.Microsecond)
				}
			}
		})
	})
	for range kills {
		<-time.After(killEvery)
		p.door.open.Lock()
		kill(p.broker)
		// It reads to the end what the broker has sent it.
		until(t, "the device notices", func() bool { return !receiver.IsConnected() })
		<-time.After(killEvery / 4)
		p.startBroker()
		receiver = p.device("receiver", func(m mqtt.Message) { out.add(string(m.Payload())) })
		p.door.open.Unlock()
		talking.Lock()
		talker.Disconnect(0)
		talker = p.device("talker", nil)
		talking.Unlock()
	}
	close(stop)
	senders.Wait()
	until(t, "the last ones to arrive", func() bool { return out.has(sent-1) && in.has(said-1) })
	if out.missing(sent) > 0 || in.missing(said) > 0 {
		t.Errorf("messages are lost")
	}
	t.Logf("out: %d sent, %d lost, %d twice, %d out of order; in: %d, %d lost, %d twice, %d out of order",
		sent, out.missing(sent), out.duplicates, out.unordered, said, in.missing(said), in.duplicates, in.unordered)
	if most := kills * 50; out.duplicates > most || in.duplicates > most {
		t.Errorf("%d and %d duplicates, want no more than were on their way: %d", out.duplicates, in.duplicates, most)
	}
	if out.unordered > 0 || in.unordered > 0 {
		t.Errorf("%d and %d out of order", out.unordered, in.unordered)
	}
	receiver.Disconnect(0)
	talker.Disconnect(0)
}

func subscribe(t *testing.T, s *wampclient.Session, a *tally) {
	t.Helper()
	_, err := s.Subscribe(t.Context(), "site.in.", func(e *wampclient.Event) { a.add(fmt.Sprint(e.Args[0])) }, wampclient.Pattern(wamp.MatchPrefix))
	if err != nil {
		t.Fatal(err)
	}
}

// awaitOnline waits until the bridge is connected.
func (p *plant) awaitOnline(s *wampclient.Session) wamp.Dict {
	p.t.Helper()
	var status wamp.Dict
	until(p.t, "the bridge is online", func() bool {
		r, err := s.Call(p.t.Context(), "postern.bridge.status", wamp.List{"plant"}, nil)
		if err != nil {
			return false
		}
		status, _ = r.Args[0].(wamp.Dict)
		return status["state"] == "online"
	})
	return status
}

// TestGatewayKilledTwentyTimes: what a publisher has been told is published is
// in the queue's log, but for the message between PUBLISHED and the log; and
// what came from the broker is not acknowledged before the realm has it.
func TestGatewayKilledTwentyTimes(t *testing.T) {
	p := newPlant(t)
	p.startBroker()
	p.startGateway()
	sess := p.join()
	out, in := newTally(), newTally()
	subscribe(t, sess, in)
	p.awaitOnline(sess)
	receiver := p.device("receiver", func(m mqtt.Message) { out.add(string(m.Payload())) })
	talker := p.device("talker", nil)
	stop := make(chan struct{})
	var senders sync.WaitGroup
	var sent, said int
	senders.Go(func() {
		sent = eachTick(stop, func(i int) {
			for {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				err := sess.Publish(ctx, "site.out.x", wamp.List{int64(i)}, nil, wampclient.Acknowledge())
				cancel()
				if err == nil {
					return
				}
				<-time.After(10 * time.Millisecond)
			}
		})
	})
	senders.Go(func() {
		said = eachTick(stop, func(i int) { talker.Publish("in/x", 1, false, strconv.Itoa(i)) })
	})
	for range kills {
		<-time.After(killEvery)
		kill(p.gateway)
		p.startGateway()
	}
	<-time.After(killEvery)
	close(stop)
	senders.Wait()
	p.awaitOnline(sess)
	// Each kill can cost the one event that a publisher which waits for PUBLISHED
	// has under way; towards WAMP, what the realm had taken and the subscriber,
	// whose connection the gateway was, had not.
	until(t, "the last ones to arrive", func() bool { return out.has(sent-1) && in.has(said-1) })
	t.Logf("out: %d sent, %d lost, %d twice, %d out of order; in: %d, %d lost, %d twice, %d out of order",
		sent, out.missing(sent), out.duplicates, out.unordered, said, in.missing(said), in.duplicates, in.unordered)
	if lost := out.missing(sent); lost > kills {
		t.Errorf("%d events of publishers with an acknowledgement are lost, want no more than one for each kill", lost)
	}
	if most := kills * 50; out.duplicates > most || in.duplicates > most {
		t.Errorf("%d and %d duplicates, want no more than were on their way: %d", out.duplicates, in.duplicates, most)
	}
	if out.unordered > 0 || in.unordered > 0 {
		t.Errorf("%d and %d out of order", out.unordered, in.unordered)
	}
	receiver.Disconnect(0)
	talker.Disconnect(0)
}

// TestSilentBroker: a broker that accepts and says nothing is named as such,
// and harms nobody.
func TestSilentBroker(t *testing.T) {
	p := newPlant(t)
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p.startGateway()
	sess := p.join()
	if err := sess.Publish(t.Context(), "site.out.x", wamp.List{int64(1)}, nil, wampclient.Acknowledge()); err != nil {
		t.Fatal(err)
	}
	until(t, "the message to wait", func() bool {
		r, err := sess.Call(t.Context(), "postern.bridge.status", wamp.List{"plant"}, nil)
		if err != nil {
			return false
		}
		status := r.Args[0].(wamp.Dict)
		return fmt.Sprint(status["queued"]) == "1" && status["state"] == "connecting" && fmt.Sprint(status["disk_bytes"]) != "0"
	})
}
