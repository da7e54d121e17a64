package bridge

import (
	"hash/maphash"
	"sync"
	"time"
)

// hashSeed is one per process: the hashes never leave it.
var hashSeed = maphash.MakeSeed()

func hashString(s string) uint64 { return maphash.String(hashSeed, s) }
func hashBytes(b []byte) uint64  { return maphash.Bytes(hashSeed, b) }

// maxRemembered bounds the topics and echoes that a task remembers. Beyond it
// a repetition may pass that need not have.
const maxRemembered = 65_536

// recall remembers the last retained payload of each topic, whichever way it
// went, so that what a broker replays at every subscription is passed on only
// when it is news.
type recall struct {
	mu   sync.Mutex
	last map[uint64]recalled
}

type recalled struct {
	payload uint64
	conn    int
}

// note remembers what has been sent or passed on during a connection.
func (r *recall) note(topic string, payload []byte, conn int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store(hashString(topic), recalled{hashBytes(payload), conn})
}

// repeated reports whether a retained message that arrived is the broker's
// replay of what is known: the topic's first on this connection, and the same
// as the last before. A broker that passes the flag on with live messages
// (retain as published) does not say which is which.
func (r *recall) repeated(topic string, payload []byte, conn int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, now := hashString(topic), recalled{hashBytes(payload), conn}
	before, known := r.last[key]
	r.store(key, now)
	return known && before.conn != conn && before.payload == now.payload
}

func (r *recall) store(key uint64, v recalled) {
	if r.last == nil {
		r.last = map[uint64]recalled{}
	}
	if _, known := r.last[key]; !known && len(r.last) >= maxRemembered {
		for k := range r.last { // any one
			delete(r.last, k)
			break
		}
	}
	r.last[key] = v
}

// outputs keeps the last retained message of every topic that only the gateway
// publishes to, for a broker that has lost its own.
type outputs struct {
	mu    sync.Mutex
	last  map[string]Message
	bytes int
}

const (
	maxOutputs     = 10_000
	maxOutputBytes = 8 << 20
)

// set keeps m, or forgets its topic when m clears it. It reports whether m is
// the same as before.
func (o *outputs) set(m Message) (same bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before, known := o.last[m.Topic]
	if known {
		if string(before.Payload) == string(m.Payload) {
			return true
		}
		o.bytes -= before.size()
		delete(o.last, m.Topic)
	}
	if len(m.Payload) == 0 || len(o.last) >= maxOutputs || o.bytes+m.size() > maxOutputBytes {
		return false
	}
	if o.last == nil {
		o.last = map[string]Message{}
	}
	o.last[m.Topic] = m
	o.bytes += m.size()
	return false
}

// knows reports whether there is a message for the topic.
func (o *outputs) knows(topic string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, known := o.last[topic]
	return known
}

// all returns those for which wanted is true.
func (o *outputs) all(wanted func(Message) bool) []Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []Message
	for _, m := range o.last {
		if wanted(m) {
			out = append(out, m)
		}
	}
	return out
}

// echoLife is how long after its acknowledgement an own publication may come
// back from a broker that does not know the bridge bit.
const echoLife = 2 * time.Second

// echoes remembers what was sent to such a broker, and swallows each once.
type echoes struct {
	mu      sync.Mutex
	open    map[echoKey][]*echo
	expires []*echo // acknowledged, in order of their end
	count   int
}

type echoKey struct{ topic, payload uint64 }

type echo struct {
	key  echoKey
	end  time.Time
	gone bool
}

func keyOf(topic string, payload []byte) echoKey {
	return echoKey{hashString(topic), hashBytes(payload)}
}

// sent remembers m, until two seconds after acknowledged is called with what it
// returns.
func (e *echoes) sent(m Message) *echo {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count >= maxRemembered {
		return nil
	}
	if e.open == nil {
		e.open = map[echoKey][]*echo{}
	}
	x := &echo{key: keyOf(m.Topic, m.Payload)}
	e.open[x.key] = append(e.open[x.key], x)
	e.count++
	return x
}

// acknowledged starts the end of x's life. For what was lost with its
// connection it is called, too.
func (e *echoes) acknowledged(x *echo, now time.Time) {
	if x == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire(now)
	if !x.gone {
		x.end = now.Add(echoLife)
		e.expires = append(e.expires, x)
	}
}

// swallow reports whether a message that arrived is one of those sent.
func (e *echoes) swallow(topic string, payload []byte, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count == 0 {
		return false
	}
	e.expire(now)
	list := e.open[keyOf(topic, payload)]
	if len(list) == 0 {
		return false
	}
	e.remove(list[0])
	return true
}

func (e *echoes) expire(now time.Time) {
	for len(e.expires) > 0 && (e.expires[0].gone || now.After(e.expires[0].end)) {
		if !e.expires[0].gone {
			e.remove(e.expires[0])
		}
		e.expires = e.expires[1:]
	}
}

func (e *echoes) remove(x *echo) {
	x.gone = true
	e.count--
	list := e.open[x.key]
	for i := range list {
		if list[i] == x {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(e.open, x.key)
	} else {
		e.open[x.key] = list
	}
}
