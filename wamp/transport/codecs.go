package transport

import (
	"strings"

	"github.com/postern-iot/postern/wamp/codec"
)

// serializations is the table of what peers can agree on. A new codec is one
// row here.
var serializations = []struct {
	codec       codec.Codec
	subprotocol string // WebSocket
	nibble      byte   // RawSocket
}{
	{codec.JSON, "wamp.2.json", 1},
	{codec.MessagePack, "wamp.2.msgpack", 2},
	{codec.CBOR, "wamp.2.cbor", 3},
}

// subprotocols names all known WebSocket subprotocols, for error texts.
func subprotocols() string {
	var names []string
	for _, s := range serializations {
		names = append(names, s.subprotocol)
	}
	return strings.Join(names, ", ") + ", or the same with " + batchSuffix
}
