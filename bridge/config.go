package bridge

import "time"

// Embedded is the name by which maps refer to the gateway's own broker.
const Embedded = "embedded"

// Config is the bridge's part of the configuration.
type Config struct {
	Brokers []BrokerConfig `yaml:"brokers" doc:"MQTT brokers on the network. The gateway's own broker needs no entry: maps call it embedded."`
	Maps    []Map          `yaml:"maps" doc:"What crosses between MQTT and the realm. For a topic or URI that several maps match, the first decides."`

	Calls []Call `yaml:"calls" doc:"Remote procedures across the bridge: commands from MQTT that call WAMP procedures, and WAMP procedures that MQTT devices answer."`

	Presets []Preset `yaml:"presets" doc:"Maps and calls of well-known fleets, beside those above, which come first."`

	HomeAssistant []HomeAssistant `yaml:"homeassistant" doc:"Brokers at which Home Assistant is told of the gateway's devices. See homeassistant.md."`

	Discovery []Discovery `yaml:"discovery" doc:"Brokers whose discovery messages (Home Assistant's, Tasmota's) become described devices in the realm. See homeassistant.md."`

	Sparkplug []Sparkplug `yaml:"sparkplug" doc:"Brokers at which the gateway is a Sparkplug B edge node, with its devices. See sparkplug.md."`

	// EmbeddedAt are the addresses, host:port, at which the embedded broker
	// listens; with them an entry of Brokers that reaches it is told from others
	// when loops are looked for. New asks the broker when they are not set.
	EmbeddedAt []string `yaml:"-"`
	// DevicePrefix is what the URIs of the gateway's devices begin with; see
	// AddDiscovery.
	DevicePrefix string `yaml:"-"`
}

// Preset brings in the maps and calls of a kind of fleet.
type Preset struct {
	Use    string `yaml:"use" short:"true" required:"true" doc:"Which: esphome, generic, shelly, tasmota or zigbee2mqtt. See bridge.md." example:"tasmota"`
	Broker string `yaml:"broker" doc:"The broker at which the fleet is: the name of an entry of brokers; embedded by default."`
	Prefix string `yaml:"prefix" doc:"Where the fleet is in the realm; empty for the preset's own." example:"site.tasmota"`
	Base   string `yaml:"base" doc:"The first levels of the fleet's topics, for presets that have them; empty for the preset's own." example:"zigbee2mqtt"`
	Name   string `yaml:"name" doc:"What the names of its maps and calls begin with; empty for use. A preset used twice needs two."`
}

// SetDefaults fills in what the file need not say.
func (p *Preset) SetDefaults() { p.Broker = orElse(p.Broker, Embedded) }

// DefaultConfig bridges the embedded broker: what MQTT devices publish appears
// under mqtt., what is published there goes to them, and the devices' readings
// go out under device/.
func DefaultConfig() Config {
	everything := Map{Name: "mqtt", Brokers: []string{Embedded}, Direction: Both, MQTT: "{t...}", WAMP: "mqtt.{t...}"}
	everything.SetDefaults()
	readings := Map{Name: "readings", Brokers: []string{Embedded}, Direction: Out, MQTT: "device/{d}/{r}", WAMP: "device.{d}.{r}"}
	readings.SetDefaults()
	return Config{Maps: []Map{everything, readings}}
}

// BrokerConfig is one MQTT broker on the network.
type BrokerConfig struct {
	Name     string   `yaml:"name" required:"true" doc:"Name of the broker in maps, status and logs: letters, digits, _ and -." example:"plant"`
	URLs     []string `yaml:"urls" required:"true" single:"true" doc:"Where it is, in order of preference: tcp://host:1883, tls://host:8883, ws://host/path, wss://host/path, unix:///path. Every attempt to connect begins with the first." example:"tls://mqtt.example:8883"`
	ClientID string   `yaml:"client_id" expand:"true" doc:"MQTT client identifier; it must be unique at the broker. {hostname} is the machine's name."`
	Protocol string   `yaml:"protocol" enum:"bridge,3.1.1" doc:"bridge is MQTT 3.1.1 with the bridge bit, which keeps the broker from sending back what the gateway sent and lets it pass the retained flag on; brokers that refuse it are asked without."`
	Session  string   `yaml:"session" enum:"persistent,clean" doc:"persistent has the broker keep messages of QoS 1 and 2 while the gateway is away; clean does not."`
	Username string   `yaml:"username" doc:"User name; empty for none."`
	Password string   `yaml:"password" secret:"true" doc:"Password; write !file PATH to read it from a file."`

	TLS       TLSConfig       `yaml:"tls" doc:"TLS, for tls:// and wss:// URLs."`
	KeepAlive time.Duration   `yaml:"keepalive" min:"1s" max:"18h" doc:"How long the connection may be idle before it is probed, in whole seconds; a broker that is silent for one and a half times as long is given up."`
	Reconnect ReconnectConfig `yaml:"reconnect" doc:"How long to wait between attempts to connect."`
	InFlight  int             `yaml:"in_flight" min:"1" max:"1000" doc:"How many messages of QoS 1 and 2 may be on their way to the broker without its acknowledgement."`
	MaxPacket int             `yaml:"max_packet" unit:"bytes" min:"1KiB" max:"256MiB" doc:"Largest MQTT packet taken from the broker; a larger one ends the connection."`

	Status     StatusConfig `yaml:"status" doc:"What tells the broker's clients whether the gateway is there."`
	DeadLetter string       `yaml:"dead_letter" expand:"true" doc:"Topic for what maps with on_bad_payload: dead_letter could not carry, with the reason."`
	Queue      QueueConfig  `yaml:"queue" doc:"Where messages wait for the broker."`

	// Will is the last will, instead of that of Status; nil for that one.
	Will *Message `yaml:"-"`
}

// SetDefaults fills in what the file need not say.
func (b *BrokerConfig) SetDefaults() {
	*b = BrokerConfig{
		ClientID: "postern-{hostname}", Protocol: "bridge", Session: "persistent",
		KeepAlive: 15 * time.Second,
		Reconnect: ReconnectConfig{Min: 200 * time.Millisecond, Max: 30 * time.Second, Jitter: 0.3, StableAfter: 10 * time.Second},
		InFlight:  50, MaxPacket: 1 << 20,
		Status:     StatusConfig{Online: "online", Offline: "offline"},
		DeadLetter: "postern/dead-letter",
		Queue:      DefaultQueue(),
	}
}

// TLSConfig says whom to trust and what to show.
type TLSConfig struct {
	CA         string   `yaml:"ca" doc:"File with the certificates to trust, in PEM; empty for the system's."`
	Cert       string   `yaml:"cert" doc:"File with the gateway's own certificate, in PEM, for brokers that ask for one."`
	Key        string   `yaml:"key" doc:"File with its private key, in PEM."`
	ServerName string   `yaml:"server_name" doc:"Name that the broker's certificate must have; empty for the URL's host."`
	ALPN       []string `yaml:"alpn" single:"true" doc:"Application protocols to offer." example:"mqtt"`
}

// ReconnectConfig is the back-off between attempts to connect.
type ReconnectConfig struct {
	Min         time.Duration `yaml:"min" min:"10ms" doc:"Wait after the first failure; doubled after each further one."`
	Max         time.Duration `yaml:"max" min:"10ms" doc:"Longest wait."`
	Jitter      float64       `yaml:"jitter" min:"0" max:"1" doc:"Part of each wait that is random, from 0 to 1."`
	StableAfter time.Duration `yaml:"stable_after" doc:"How long a connection must last for the waits to begin again at min."`
}

// StatusConfig is the birth message and the last will.
type StatusConfig struct {
	Topic   string `yaml:"topic" expand:"true" doc:"Topic of a retained message that says whether the gateway is there; empty for none."`
	Online  string `yaml:"online" doc:"Its payload while the gateway is connected."`
	Offline string `yaml:"offline" doc:"Its payload after the gateway has left, or the connection was lost."`
}

// The directions of a map, as seen from the realm.
const (
	In   = "in"   // MQTT to WAMP
	Out  = "out"  // WAMP to MQTT
	Both = "both" // each way
)

// What a map does about the retained flag.
const (
	RetainKeep   = "keep"
	RetainDrop   = "drop"
	RetainAlways = "always"
)

// Where a payload's value goes.
const (
	IntoArgs     = "args"
	IntoKwArgs   = "kwargs"
	IntoEnvelope = "envelope"
	ArgsSpread   = "spread" // of calls: a list is all arguments
)

// What happens to a payload that cannot cross.
const (
	BadDrop       = "drop"
	BadDeadLetter = "dead_letter"
)

// Map is one rule of what crosses, and how.
type Map struct {
	Name      string   `yaml:"name" required:"true" doc:"Name of the map in counters and logs." example:"temps"`
	Brokers   []string `yaml:"brokers" single:"true" doc:"Brokers that it is for; empty for all, the embedded one included."`
	Direction string   `yaml:"direction" enum:"in,out,both" doc:"in is from MQTT to WAMP, out from WAMP to MQTT."`
	MQTT      string   `yaml:"mqtt" required:"true" doc:"Topic, with captures: {x} is one level, {x...} is all that remains, the parent level included." example:"sensors/{id}/temp"`
	WAMP      string   `yaml:"wamp" required:"true" doc:"URI, with the same captures." example:"com.site.sensors.{id}.temp"`
	Except    []string `yaml:"except" single:"true" doc:"URI patterns that the map leaves alone, in either direction." example:"com.site.debug.{rest...}"`
	QoS       int      `yaml:"qos" min:"0" max:"2" doc:"MQTT quality of service: of messages sent, and the most asked for. 0 may be lost, 1 and 2 arrive at least once."`
	Codec     Codec    `yaml:"codec" doc:"How the payload is written in MQTT."`
	Into      string   `yaml:"into" enum:"args,kwargs,envelope" doc:"args: the payload is the event's only argument. kwargs: it is an object with the keyword arguments (outwards, an argument is added as value). envelope: it is an object with args and kwargs."`
	Retain    string   `yaml:"retain" enum:"keep,drop,always" doc:"Whether messages sent on are retained: as they came, never, or always. An empty retained message clears."`

	Split  string `yaml:"split" doc:"Inwards, makes one event of every value in an object, however deep: the capture of wamp named here becomes the keys on the way to it." example:"path"`
	OnlyIf OnlyIf `yaml:"only_if" doc:"Which messages cross; all without it."`

	Delivery `yaml:",inline"`

	OnBadPayload string `yaml:"on_bad_payload" enum:"drop,dead_letter" doc:"What happens to a payload that cannot be read or written; either way it is counted."`
}

// SetDefaults fills in what the file need not say.
func (m *Map) SetDefaults() {
	m.Direction, m.QoS = orElse(m.Direction, In), 1
	m.Codec.SetDefaults()
	m.Delivery.SetDefaults()
	m.Into, m.Retain, m.OnBadPayload = orElse(m.Into, IntoArgs), orElse(m.Retain, RetainKeep), orElse(m.OnBadPayload, BadDeadLetter)
}

// OnlyIf says which of a map's messages cross. All its conditions must hold,
// except that heartbeat lets through what on_change and change hold back. Each
// topic or URI is looked at for itself; what clears always crosses.
type OnlyIf struct {
	Expression  string        `yaml:"expression" doc:"A condition: $value is the first argument, inwards $.path a place in the payload, outwards $.args[0] and $.kwargs.unit; {capture}, $previous (the value that crossed last), numbers, texts in quotes, == != < <= > >= && || ! + - * / % and abs()." example:"$value > 3 && {dev} != \"test\""`
	OnChange    bool          `yaml:"on_change" doc:"Only what differs from what crossed last."`
	Change      float64       `yaml:"change" min:"0" doc:"Only numbers that differ from the one that crossed last by at least so much; other values when they differ at all." example:"0.2"`
	Sample      int           `yaml:"sample" min:"0" max:"1000000" doc:"Only the first of so many."`
	MinInterval time.Duration `yaml:"min_interval" min:"0s" doc:"At most one in so long; what comes in between is left out."`
	Heartbeat   time.Duration `yaml:"heartbeat" min:"0s" doc:"A message crosses unchanged when the last crossed so long ago."`
}

// Codec says how a payload is written in MQTT. An empty payload is an event
// without arguments under every codec.
type Codec struct {
	Type  string `yaml:"type" short:"true" enum:"auto,json,msgpack,cbor,text,number,bool,base64,raw" doc:"auto reads JSON, else text, else bytes, and writes text and bytes as they are and the rest as JSON."`
	True  string `yaml:"true" doc:"What bool writes for true; read without regard to case."`
	False string `yaml:"false" doc:"What bool writes for false."`

	Field    string `yaml:"field" doc:"The place in a JSON payload (MessagePack or CBOR with those types) where the value is; outwards, a payload is made that has nothing else. The other types read and write the text that is there." example:"$.ENERGY.Power"`
	Template any    `yaml:"template" doc:"What is built instead of the value as it came: inwards of the payload ($.temperature), outwards of the event ($.args[0], $.kwargs.unit); also $value, $topic, $uri, $now, $now_ms, and {capture} within texts. See bridge.md."`
}

// SetDefaults fills in what the file need not say.
func (c *Codec) SetDefaults() {
	c.Type, c.True, c.False = orElse(c.Type, "auto"), orElse(c.True, "true"), orElse(c.False, "false")
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
