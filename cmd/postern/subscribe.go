package main

import (
	"context"
	"sync"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
)

func newSubscribe() *cobra.Command {
	var o clientOptions
	var match string
	var retained bool
	var count int
	cmd := &cobra.Command{
		Use:   "subscribe TOPIC",
		Short: "Print the events of a topic as JSON lines, until Ctrl-C",
		Example: "  postern subscribe device.thermometer.temperature\n" +
			"  postern subscribe device. --match prefix\n" +
			"  postern subscribe device..temperature --match wildcard --retained --count 1",
		Args: needs("the topic", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := matchPolicy(match)
			if err != nil {
				return err
			}
			if count < 0 {
				return usage("--count: %d is less than 0", count)
			}
			ctx, s, leave, err := o.join()
			if err != nil {
				return err
			}
			defer leave()
			p := &printer{left: count, bounded: count > 0, finished: make(chan struct{})}
			opts := []client.SubscribeOption{client.Pattern(m)}
			if retained {
				opts = append(opts, client.GetRetained())
			}
			bound, cancel := context.WithTimeout(ctx, o.timeout)
			_, err = s.Subscribe(bound, args[0], func(e *client.Event) {
				p.print(func() error {
					return ordered(cmd.OutOrStdout(), "topic", e.Topic, "args", listOrNil(e.Args), "kwargs", dictOrNil(e.KwArgs))
				})
			}, opts...)
			cancel()
			if err != nil {
				return explain(err)
			}
			if err := until(ctx, s, p.finished); err != nil {
				return err
			}
			return p.problem()
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&match, "match", "exact", "how the topic is compared: exact, prefix, wildcard")
	cmd.Flags().BoolVar(&retained, "retained", false, "begin with the event that the router keeps, if any")
	cmd.Flags().IntVar(&count, "count", 0, "end after this many events; 0 for never")
	return cmd
}

func matchPolicy(word string) (wamp.Match, error) {
	switch m := wamp.Match(word); m {
	case wamp.MatchExact, wamp.MatchPrefix, wamp.MatchWildcard:
		return m, nil
	}
	return "", usage("--match: %q is not one of exact, prefix, wildcard", word)
}

// printer prints what comes in, and says when that is enough, or when nobody
// reads it.
type printer struct {
	mu       sync.Mutex
	left     int
	bounded  bool
	done     bool
	err      error
	finished chan struct{}
}

func (p *printer) print(write func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return
	}
	p.err = write()
	p.left--
	if p.err != nil || p.bounded && p.left == 0 {
		p.done = true
		close(p.finished)
	}
}

// problem is why it could not print.
func (p *printer) problem() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
