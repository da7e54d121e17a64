package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/bridge"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/codec"
)

func newBridge() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bridge COMMAND",
		Short: "Ask about the MQTT bridge",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBridgeMap())
	return cmd
}

// dryRun is the flags of postern bridge map.
type dryRun struct {
	path, broker, payload string
	retained, known       bool
	wanted                bool // something crosses
}

func newBridgeMap() *cobra.Command {
	var d dryRun
	cmd := &cobra.Command{
		Use:   "map TOPIC|URI [-c FILE] [--payload TEXT]",
		Short: "Say where a topic or URI goes, and why",
		Long: "map reads a configuration and says what its maps make of an MQTT topic or a URI: every map considered, what\n" +
			"its captures take, and with --payload what arrives on the other side. No gateway needs to run, and nothing is\n" +
			"sent. For a URI the payload is a JSON value, the event's argument, or {\"args\": […], \"kwargs\": {…}}.\n" +
			"The exit status is 0 when something crosses, and 1 when nothing does.",
		Example: "  postern bridge map tele/kitchen/SENSOR --payload '{\"AM2301\": {\"Temperature\": 21.5}}'\n" +
			"  postern bridge map device.host.load --payload 0.42",
		Args: needs("a topic or a URI", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.known = cmd.Flags().Changed("payload")
			return d.run(cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&d.path, "config", "c", "postern.yaml", "the file")
	f.StringVarP(&d.broker, "broker", "b", "", "only this broker")
	f.StringVarP(&d.payload, "payload", "p", "", "the message's payload, or the event's argument as JSON")
	f.BoolVarP(&d.retained, "retain", "r", false, "the message is a retained one")
	return cmd
}

func (d *dryRun) run(cmd *cobra.Command, name string) error {
	cfg, err := load(cmd, d.path)
	if err != nil {
		return err
	}
	uris := cfg.URIs()
	brokers := []string{}
	for _, b := range cfg.Bridge.Brokers {
		brokers = append(brokers, b.Name)
	}
	if cfg.MQTT.Enabled {
		brokers = append(brokers, bridge.Embedded)
	}
	var out strings.Builder
	found := false
	for _, b := range brokers {
		if d.broker != "" && b != d.broker {
			continue
		}
		found = true
		table, _ := bridge.NewTable(b, cfg.Bridge.Maps, uris, codec.CBOR)
		if err := d.explain(&out, b, table, name); err != nil {
			return err
		}
		for _, line := range cfg.Bridge.ExplainCalls(b, name, uris) {
			d.wanted = true
			fmt.Fprintf(&out, "  %s\n", line)
		}
	}
	if !found {
		return usage("there is no broker %q; there are: %s", d.broker, strings.Join(brokers, ", "))
	}
	if _, err := io.WriteString(cmd.OutOrStdout(), out.String()); err != nil {
		return err
	}
	if !d.wanted {
		return &exitError{status: exitFailed, quiet: true, err: fmt.Errorf("nothing crosses")}
	}
	return nil
}

// explain writes what one broker's table makes of the name. A name without a
// slash may be either.
func (d *dryRun) explain(w io.Writer, broker string, table *bridge.Table, name string) error {
	now := time.Now()
	var payload []byte
	if d.known {
		payload = []byte(d.payload)
		if payload == nil {
			payload = []byte{}
		}
	}
	x := table.ExplainTopic(name, payload, d.retained, now)
	d.write(w, fmt.Sprintf("%s, topic %s, to WAMP", broker, name), x)
	if strings.Contains(name, "/") {
		return nil
	}
	var event *wamp.Payload
	if d.known {
		p, err := eventOf(payload)
		if err != nil {
			return usage("--payload: %v", err)
		}
		event = &p
	}
	x = table.ExplainURI(name, event, d.retained, now)
	d.write(w, fmt.Sprintf("%s, URI %s, to MQTT", broker, name), x)
	return nil
}

// eventOf reads an event's payload as it is given on the command line.
func eventOf(b []byte) (wamp.Payload, error) {
	if len(b) == 0 {
		return wamp.Payload{}, nil
	}
	v, err := codec.JSON.DecodeValue(b)
	if err != nil {
		return wamp.Payload{}, fmt.Errorf("is no JSON; a text needs quotes of its own: '\"on\"'")
	}
	if m, ok := v.(map[string]any); ok {
		args, isList := m["args"].([]any)
		kwargs, isDict := m["kwargs"].(map[string]any)
		if isList || isDict {
			return wamp.NewPayload(codec.CBOR, args, kwargs)
		}
	}
	return wamp.NewPayload(codec.CBOR, wamp.List{v}, nil)
}

func (d *dryRun) write(w io.Writer, title string, x bridge.Explanation) {
	fmt.Fprintln(w, title)
	for _, c := range x.Considered {
		switch {
		case !c.Decides:
			fmt.Fprintf(w, "  map %s: no, %s\n", c.Map.Name, c.Why)
		case c.Captures != "":
			fmt.Fprintf(w, "  map %s: yes, with %s\n", c.Map.Name, c.Captures)
		default:
			fmt.Fprintf(w, "  map %s: yes\n", c.Map.Name)
		}
	}
	flags := func(retain bool) string {
		if retain {
			return ", retained"
		}
		return ""
	}
	for _, m := range x.Messages {
		d.wanted = true
		fmt.Fprintf(w, "  → %s (QoS %d%s)%s\n", m.Topic, m.QoS, flags(m.Retain), shown(m.Payload))
	}
	for _, e := range x.Events {
		d.wanted = true
		text := ""
		if d.known {
			args, kwargs, err := e.Payload.Values()
			event := wamp.Dict{}
			if len(args) > 0 {
				event["args"] = args
			}
			if len(kwargs) > 0 {
				event["kwargs"] = kwargs
			}
			b, jsonErr := codec.JSON.AppendValue(nil, event)
			if err == nil && jsonErr == nil {
				text = " " + string(b)
			}
		}
		fmt.Fprintf(w, "  → %s%s%s\n", e.Topic, flags(e.Retain), text)
	}
	switch r := x.Decision.Reason; {
	case r == bridge.NoMap:
		fmt.Fprintln(w, "  nothing: no map takes it")
	case r != bridge.Mapped && x.Decision.Err != nil:
		fmt.Fprintf(w, "  nothing: %s, %v\n", r, x.Decision.Err)
	case r != bridge.Mapped:
		fmt.Fprintf(w, "  nothing: %s\n", r)
	case len(x.Messages)+len(x.Events) == 0:
		fmt.Fprintln(w, "  nothing: it has no value")
	}
}

// shown is a payload as a terminal may have it.
func shown(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	text := string(b)
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7F || r == '\uFFFD' }) {
		return fmt.Sprintf(" %q", text)
	}
	return " " + text
}
