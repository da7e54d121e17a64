package bridge

import "time"

// Call is one remote procedure across the bridge.
type Call struct {
	Name      string `yaml:"name" required:"true" doc:"Name of the call in counters and logs." example:"plc"`
	Broker    string `yaml:"broker" required:"true" doc:"The broker at which the topics are: the name of an entry of brokers, or embedded."`
	Direction string `yaml:"direction" required:"true" enum:"in,out" doc:"in: a message on request calls the procedure. out: a call of the procedure publishes on request."`
	Procedure string `yaml:"procedure" required:"true" doc:"URI of the procedure, with captures as in maps." example:"site.{dev}.relay.set"`
	Request   string `yaml:"request" required:"true" doc:"Topic of the request, with captures; {id} is a number of its own for each request." example:"cmd/{dev}/req/{id}"`
	Reply     string `yaml:"reply" doc:"Topic of the answer; without one, a call of direction out returns when the broker has the request." example:"cmd/{dev}/rep/{id}"`
	QoS       int    `yaml:"qos" min:"0" max:"1" doc:"MQTT quality of service of what the gateway sends, and of the replies asked for. Commands are always taken at 0: the broker is to keep none."`

	Codec      Codec  `yaml:"codec" doc:"How the request's payload is written. A call without arguments has an empty one, unless there is a template."`
	Args       string `yaml:"args" enum:"args,spread,kwargs,envelope" doc:"args: the payload is the only argument. spread: a list is all arguments. kwargs: an object is the keyword arguments. envelope: an object has args and kwargs."`
	ReplyCodec Codec  `yaml:"reply_codec" doc:"How the answer's payload is written; its field says where the result is."`

	Correlation string `yaml:"correlation" doc:"Where payloads carry the request's id, when topics do not; a template writes it as $id." example:"$.id"`
	ReplyIf     string `yaml:"reply_if" doc:"For direction out, which messages on reply are the answer: a condition, where $ is the message, and $args are the call's." example:"$.state == $args[0]"`
	Error       string `yaml:"error" doc:"For direction out, where an answer says that the request failed." example:"$.error"`

	Timeout   time.Duration `yaml:"timeout" min:"10ms" max:"1h" doc:"How long the answer may take."`
	MaxOpen   int           `yaml:"max_open" min:"1" max:"10000" doc:"How many may be under way at once; more are refused."`
	OncePerID time.Duration `yaml:"once_per_id" min:"0s" max:"24h" doc:"For direction in, how long ids are remembered, so that a repeated command is carried out once."`
	Role      string        `yaml:"role" doc:"For direction in, the role of the realm with whose permissions the command is carried out."`

	Availability Availability `yaml:"availability" doc:"For direction out, what says that a device is away: calls then fail at once."`
}

// Availability is a topic that says whether a device is there.
type Availability struct {
	Topic string `yaml:"topic" doc:"The topic, with the procedure's captures; empty for none." example:"tele/{dev}/LWT"`
	Codec Codec  `yaml:"codec" doc:"How its payload is written: bool, with the words for here and away."`
}

// SetDefaults fills in what the file need not say.
func (c *Call) SetDefaults() {
	c.QoS = 1
	c.Codec.SetDefaults()
	c.ReplyCodec.SetDefaults()
	c.Args = orElse(c.Args, IntoArgs)
	c.Timeout, c.MaxOpen, c.OncePerID = 5*time.Second, 100, time.Minute
	c.Availability.Codec = Codec{Type: "bool", True: "online", False: "offline"}
}
