package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/devices"
	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/client"
	"github.com/postern-iot/postern/wamp/codec"
)

// trial runs one device of a configuration, or one from the command line, in a
// gateway of its own that listens nowhere and keeps nothing.
type trial struct {
	path, device string
	timeout      time.Duration
	asJSON       bool
}

func (o *trial) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.path, "config", "c", "postern.yaml", "the configuration that has the device")
	f.StringVar(&o.device, "device", "", "a device in YAML, in place of one of a configuration: '{type: bme280, bus: /dev/i2c-1}'")
	f.DurationVar(&o.timeout, "timeout", 5*time.Second, "how long the device may take to work")
}

func newRead() *cobra.Command {
	var o trial
	var actuators bool
	cmd := &cobra.Command{
		Use:   "read (NAME [-c FILE] | --device YAML)",
		Short: "Read a sensor once, without the gateway",
		Long: "read starts one device, prints its readings and stops it. While a gateway runs on that configuration it refuses: the\n" +
			"devices are the gateway's. An actuator is not read without --actuators, as it goes into its safe state when it is\n" +
			"started and stopped. The exit status is 0 when at least one reading has a value, 1 when none has.",
		Example: "  postern devices read air -c postern.yaml\n" +
			"  postern devices read --device '{type: bme280, bus: /dev/i2c-1, address: 0x76}'\n" +
			"  postern devices read --device '{type: ds18b20, sensors: [{name: outside, id: 28-0316a2794eff}]}' --json",
		Args: func(cmd *cobra.Command, args []string) error { return o.arguments(cmd, args, 0) },
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, name, err := o.load(cmd, args)
			if err != nil {
				return err
			}
			actuator, err := isActuator(cfg, name)
			if err != nil {
				return err
			}
			if actuator && !actuators {
				return fmt.Errorf("%s is an actuator: it goes into its safe state when it is started and stopped; --actuators reads it all the same", name)
			}
			return o.run(cmd, cfg, name, func(ctx context.Context, s *client.Session) error {
				return o.read(ctx, s, cmd.OutOrStdout(), cfg.Devices.Prefix+"."+name)
			})
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVar(&actuators, "actuators", false, "also an actuator, which goes into its safe state")
	return cmd
}

func newWrite() *cobra.Command {
	var o trial
	var procedure string
	var kw []string
	var keep time.Duration
	cmd := &cobra.Command{
		Use:   "write (NAME [-c FILE] | --device YAML) [VALUE...]",
		Short: "Command an actuator for a moment, without the gateway",
		Long: "write starts one device, calls a procedure of it, which is set unless --procedure says another, and prints its\n" +
			"result. The device stays so for the time of --for, or until Ctrl-C; then it goes into its safe state. Outputs of the\n" +
			"same interlock are started with it. While a gateway runs on that configuration it refuses. Values are JSON, or text.",
		Example: "  postern devices write relay true -c postern.yaml --for 10s\n" +
			"  postern devices write --device '{type: gpio-output, pin: GPIO17}' true\n" +
			"  postern devices write meter --procedure read_registers --kw address=0 --kw count=2",
		Args: func(cmd *cobra.Command, args []string) error { return o.arguments(cmd, args, -1) },
		RunE: func(cmd *cobra.Command, args []string) error {
			kwargs, err := keywords(kw)
			if err != nil {
				return err
			}
			if keep < 0 {
				return usage("--for must be 0s or more")
			}
			cfg, name, err := o.load(cmd, args)
			if err != nil {
				return err
			}
			if o.device == "" {
				args = args[1:]
			}
			actuator, err := isActuator(cfg, name)
			if err != nil {
				return err
			}
			return o.run(cmd, cfg, name, func(ctx context.Context, s *client.Session) error {
				bound, cancel := context.WithTimeout(ctx, o.timeout)
				defer cancel()
				r, err := s.Call(bound, cfg.Devices.Prefix+"."+name+"."+procedure, arguments(args), kwargs)
				if err != nil {
					return o.offers(bound, s, cfg.Devices.Prefix+"."+name, err)
				}
				if err := printResult(cmd, r); err != nil || !actuator {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "it stays so for %v; then %s goes into its safe state (Ctrl-C: now)\n", keep, name)
				select {
				case <-time.After(keep):
				case <-ctx.Done():
				}
				return nil
			})
		},
	}
	o.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&procedure, "procedure", "set", "the procedure to call; 'postern drivers TYPE' lists a type's")
	f.StringArrayVar(&kw, "kw", nil, "keyword argument, key=value; may be repeated")
	f.DurationVar(&keep, "for", 5*time.Second, "how long it stays so before the safe state")
	return cmd
}

// arguments wants a device, by its name or as YAML, and no more than more
// further arguments; -1 for any number.
func (o *trial) arguments(cmd *cobra.Command, args []string, more int) error {
	if o.device == "" {
		if len(args) == 0 {
			return usage("the device's name is missing, or --device; 'postern devices %s --help' shows examples", cmd.Name())
		}
		args = args[1:]
	}
	if o.timeout <= 0 {
		return usage("--timeout must be more than 0s")
	}
	if more >= 0 && len(args) > more {
		return usage("unexpected argument %q", args[more])
	}
	return nil
}

// load returns a configuration with the device and what it cannot be without,
// and nothing else.
func (o *trial) load(cmd *cobra.Command, args []string) (*config.Config, string, error) {
	var cfg *config.Config
	name := "device"
	var err error
	switch {
	case o.device == "":
		name = args[0]
		cfg, err = load(cmd, o.path)
	case strings.Contains(o.device, "\n") || !strings.HasPrefix(o.device, "{"):
		return nil, "", usage("--device wants one mapping on one line, as '{type: bme280, bus: /dev/i2c-1}'")
	default:
		text := "devices: {list: [{name: device, " + strings.TrimPrefix(o.device, "{") + "]}\n"
		cfg, err = parsed(cmd, func() (*config.Config, error) { return config.Parse("--device", []byte(text), ".", all.Table()) })
	}
	if err != nil {
		return nil, "", err
	}
	i := slices.IndexFunc(cfg.Devices.List, func(e devices.Entry) bool { return e.Name == name })
	if i < 0 {
		var names []string
		for _, e := range cfg.Devices.List {
			names = append(names, e.Name)
		}
		return nil, "", usage("%s has no device %q; it has %s", o.path, name, strings.Join(names, ", "))
	}
	if at := answering(cmd.Context(), cfg); at != "" && o.device == "" {
		return nil, "", fmt.Errorf("a gateway answers at %s: the devices are its own; ask it: postern call %s.%s.get", at, cfg.Devices.Prefix, name)
	}
	alone := config.Default()
	alone.Listen.HTTP.Addresses, alone.Listen.RawSocket.Addresses = nil, nil
	alone.Log.Level = "error"
	alone.Devices = cfg.Devices
	alone.Devices.StateDir = ""
	alone.Devices.List = company(cfg.Devices.List, i)
	return alone, name, nil
}

// company is a device with those it cannot be without: the chip of its lines,
// and the others of its interlock, with the chips of theirs.
func company(list []devices.Entry, i int) []devices.Entry {
	in := make([]bool, len(list))
	in[i] = true
	group := func(e devices.Entry) [2]string {
		if g, ok := e.Params.(devices.Grouper); ok {
			key, name := g.Group()
			return [2]string{key, name}
		}
		return [2]string{}
	}
	for j, e := range list {
		in[j] = in[j] || group(e)[1] != "" && group(e) == group(list[i])
	}
	for j, e := range list {
		c, ok := e.Params.(devices.Claimer)
		if !in[j] || !ok {
			continue
		}
		for _, claim := range c.Claims() {
			parts := strings.Split(claim, ":")
			for k, chip := range list {
				in[k] = in[k] || len(parts) == 3 && parts[0] == "gpio" && parts[1] == chip.Name
			}
		}
	}
	var with []devices.Entry
	for j, e := range list {
		if in[j] {
			with = append(with, e)
		}
	}
	return with
}

// isActuator says whether the device has a safe state.
func isActuator(cfg *config.Config, name string) (bool, error) {
	host, err := devices.NewHost(cfg.Devices, all.Table(), gateway.NewLogger(cfg.Log, io.Discard, nil))
	if err != nil {
		return false, err
	}
	return slices.Contains(host.Actuators(), name), nil
}

// run has the gateway run while use does, as long as Ctrl-C does not end it.
func (o *trial) run(cmd *cobra.Command, cfg *config.Config, name string, use func(ctx context.Context, s *client.Session) error) error {
	g, err := gateway.New(cfg, gateway.Options{Version: versionText(), Drivers: all.Table(), Log: gateway.NewLogger(cfg.Log, cmd.ErrOrStderr(), nil)})
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, interrupted := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer interrupted()
	// The gateway ends by itself only when a second signal comes: the first
	// ends the use.
	running, end := context.WithCancel(context.Background())
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- g.Run(running, drop(running, signals)) }()
	select {
	case <-g.Ready():
	case err := <-ended:
		return err
	}
	err = o.use(ctx, g, cfg.Devices.Prefix+"."+name, use)
	end()
	return errors.Join(err, <-ended)
}

// drop passes on all signals but the first. Its goroutine ends with ctx.
func drop(ctx context.Context, signals <-chan os.Signal) <-chan os.Signal {
	rest := make(chan os.Signal, 2)
	go func() {
		for n := 0; ; n++ {
			select {
			case s := <-signals:
				if n > 0 {
					rest <- s
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return rest
}

// use joins, and waits until the device works.
func (o *trial) use(ctx context.Context, g *gateway.Gateway, base string, use func(ctx context.Context, s *client.Session) error) error {
	s, err := client.Join(ctx, g.Dial("trial"), client.Config{Realm: g.Realm()})
	if err != nil {
		return err
	}
	defer func() {
		bound, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(bound) // the gateway is going anyway
	}()
	bound, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	for {
		d, err := one(s.Call(bound, base+".status", nil, nil))
		switch state := devices.State(wamp.AsString(d, "state")); {
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return explain(err)
		case state.Up():
			return use(ctx, s)
		case state == devices.StateBackOff:
			return errors.New(wamp.AsString(d, "reason"))
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-bound.Done():
			if ctx.Err() != nil {
				return errors.New("stopped before the device worked")
			}
			return fmt.Errorf("the device is not ready after %v; --timeout waits longer", o.timeout)
		}
	}
}

// one takes the dict out of a result that has just it.
func one(r *client.Result, err error) (wamp.Dict, error) {
	if err != nil {
		return nil, err
	}
	if len(r.Args) != 1 {
		return nil, errors.New("the device answers with something else than one value")
	}
	d, _ := r.Args[0].(wamp.Dict)
	return d, nil
}

// offers adds to the error of a call what the device has, where that was the
// matter.
func (o *trial) offers(ctx context.Context, s *client.Session, base string, err error) error {
	if e := new(wamp.Error); !errors.As(err, &e) || e.URI != wamp.ErrNoSuchProcedure {
		return explain(err)
	}
	d, _ := one(s.Call(ctx, base+".describe", nil, nil))
	var names []string
	for _, p := range wamp.AsList(d, "procedures") {
		p, _ := p.(wamp.Dict)
		names = append(names, wamp.AsString(p, "name"))
	}
	if len(names) == 0 {
		return fmt.Errorf("%w; a %s has none", err, wamp.AsString(d, "type"))
	}
	return fmt.Errorf("%w; it has %s", err, strings.Join(names, ", "))
}

// settle is how long further readings may take once the first is there: some
// come only when something happens.
const settle = time.Second

// read prints the readings as soon as all have a value, or nothing more is to
// be expected.
func (o *trial) read(ctx context.Context, s *client.Session, w io.Writer, base string) error {
	bound, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	var d wamp.Dict
	var first time.Time
	for {
		var err error
		if d, err = one(s.Call(ctx, base+".describe", nil, nil)); err != nil {
			return explain(err)
		}
		missing, there := 0, 0
		for _, r := range wamp.AsList(d, "readings") {
			r, _ := r.(wamp.Dict)
			if n, _ := wamp.AsInt(r, "seq"); n == 0 {
				missing++
			} else {
				there++
			}
		}
		if there > 0 && first.IsZero() {
			first = time.Now()
		}
		if missing == 0 || there > 0 && time.Since(first) > settle {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond):
			continue
		case <-bound.Done():
		}
		break
	}
	return o.show(w, d)
}

func (o *trial) show(w io.Writer, d wamp.Dict) error {
	good := 0
	all := wamp.AsList(d, "readings")
	values := wamp.Dict{}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, r := range all {
		r, _ := r.(wamp.Dict)
		quality, value := wamp.AsString(r, "quality"), r["value"]
		switch value.(type) {
		case wamp.Dict, wamp.List: // as JSON, which people can read
			if line, err := codec.JSON.AppendValue(nil, value); err == nil {
				value = string(line)
			}
		}
		text := showValue(value, wamp.AsString(r, "unit"))
		if quality != string(devices.QualityBad) {
			good++
		}
		if reason := wamp.AsString(r, "reason"); reason != "" {
			text += "  (" + quality + ": " + reason + ")"
		}
		fmt.Fprintf(t, "%s\t%s\n", wamp.AsString(r, "name"), text)
		v := wamp.Dict{"value": r["value"], "unit": r["unit"], "quality": quality}
		if r["reason"] != nil {
			v["reason"] = r["reason"]
		}
		values[wamp.AsString(r, "name")] = v
	}
	var err error
	if o.asJSON {
		err = printJSON(w, values)
	} else {
		err = t.Flush()
	}
	if err == nil && good == 0 && len(all) > 0 {
		err = errors.New("no reading has a value")
	}
	return err
}
