//go:build linux

package main

import (
	"fmt"
	"math/bits"
	"time"
)

// work is what is asked of the servers.
type work struct {
	Name    string
	RPC     bool // calls; otherwise events
	Window  int  // calls or publications in flight
	Payload int  // bytes
	FanOut  int  // subscribers
	Senders int  // publishers
	Rate    int  // a second for each sender, instead of a window
}

// sample is one run's outcome.
type sample struct {
	Rate           float64 // calls or deliveries a second
	P50, P99, P999 float64 // microseconds
	CPU            float64 // the server's CPU seconds for a million of them
	RSS            float64 // MiB, at the end
}

const warmUp = 250 * time.Millisecond

// measure puts a server under a work's load. One peer calls or publishes, the
// other answers or subscribes.
func measure(s *server, from, to peer, w *work, d time.Duration) (out sample, err error) {
	l, err := newLoop()
	if err != nil {
		return out, err
	}
	defer l.close()
	f := &flow{loop: l, work: w}
	if w.RPC {
		err = f.calls(from, to)
	} else {
		err = f.events(from, to)
	}
	if err != nil {
		return out, err
	}
	if err := l.run(warmUp); err != nil {
		return out, err
	}
	f.times = histogram{}
	done, began := l.progress, time.Now()
	before, err := s.cpu()
	if err != nil {
		return out, err
	}
	if err := l.run(d); err != nil {
		return out, err
	}
	took := time.Since(began)
	after, err := s.cpu()
	if err != nil {
		return out, err
	}
	n := float64(l.progress - done)
	if n == 0 {
		return out, fmt.Errorf("nothing came in %v", d)
	}
	rss, err := s.rss()
	return sample{
		Rate: n / took.Seconds(), CPU: (after - before).Seconds() / n * 1e6, RSS: float64(rss) / 1024,
		P50: f.times.quantile(0.5), P99: f.times.quantile(0.99), P999: f.times.quantile(0.999),
	}, err
}

// flow keeps messages in flight and takes their times. They come back in the
// order in which they were sent, so no name is needed to tell them apart.
type flow struct {
	loop  *loop
	work  *work
	send  []func()
	times histogram

	sent, back int64
	began      [1 << 14]int64 // by the number sent
	left       [1 << 14]int   // receivers that still wait for it
}

const flowMask = 1<<14 - 1

func (f *flow) calls(from, to peer) error {
	if err := to.callee(f.loop, f.work.Payload); err != nil {
		return err
	}
	call, err := from.caller(f.loop, f.work.Payload, f.arrived)
	if err != nil {
		return err
	}
	f.send = []func(){call}
	return f.start()
}

func (f *flow) events(from, to peer) error {
	for range f.work.FanOut {
		// With several publishers the times belong to none of them in
		// particular; their number is what counts.
		next := int64(0)
		if err := to.subscriber(f.loop, func() {
			f.loop.progress++
			at := next & flowMask
			next++
			if f.left[at]--; f.left[at] == 0 {
				f.finished(at)
			}
		}); err != nil {
			return err
		}
	}
	for range f.work.Senders {
		publish, err := from.publisher(f.loop, f.work.Payload)
		if err != nil {
			return err
		}
		f.send = append(f.send, publish)
	}
	return f.start()
}

func (f *flow) start() error {
	if f.work.Rate > 0 {
		turn := 0
		return f.loop.every(time.Second/time.Duration(f.work.Rate*len(f.send)), func(n int) {
			for range n {
				f.next(turn)
				turn = (turn + 1) % len(f.send)
			}
		})
	}
	f.loop.stamp()
	for range f.work.Window {
		f.next(0)
	}
	return nil
}

func (f *flow) next(sender int) {
	at := f.sent & flowMask
	f.sent++
	f.began[at], f.left[at] = f.loop.now, f.work.FanOut
	f.send[sender]()
}

// arrived is one answer.
func (f *flow) arrived() {
	f.loop.progress++
	at := f.back & flowMask
	f.back++
	f.finished(at)
}

func (f *flow) finished(at int64) {
	f.times.add(f.loop.now - f.began[at])
	if f.work.Rate == 0 {
		f.next(0)
	}
}

// histogram counts times with a resolution of 3 %.
type histogram struct {
	n     int
	count [64 * 32]int
}

func (h *histogram) add(ns int64) {
	h.n++
	v := uint64(max(ns, 1))
	shift := max(bits.Len64(v)-6, 0)
	h.count[shift*32+int(v>>shift)]++
}

// quantile returns a time in microseconds.
func (h *histogram) quantile(q float64) float64 {
	rank := int(q * float64(h.n))
	for i, c := range h.count {
		if rank -= c; rank < 0 {
			shift := max(i/32-1, 0)
			return float64(uint64(i-shift*32)<<shift) / 1000
		}
	}
	return 0
}
