package serial

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/postern-iot/postern/wamp"
)

// References are to the MODBUS Application Protocol Specification V1.1b3
// ("protocol") and to MODBUS over Serial Line V1.02 ("serial line").

// The function codes (protocol, 6.1 to 6.12).
const (
	fcReadCoils          = 0x01
	fcReadDiscreteInputs = 0x02
	fcReadHolding        = 0x03
	fcReadInput          = 0x04
	fcWriteCoil          = 0x05
	fcWriteRegister      = 0x06
	fcWriteCoils         = 0x0F
	fcWriteRegisters     = 0x10

	fcException = 0x80
)

// The most that one request may ask for or write (protocol, 6.1, 6.3, 6.12).
const (
	maxReadBits       = 2000
	maxReadRegisters  = 125
	maxWriteRegisters = 123
)

// ErrModbusException is the error URI of a write or read that the unit has
// refused. Its keyword arguments are code, function and unit.
const ErrModbusException = "postern.error.modbus_exception"

// exception is a unit's refusal (protocol, 7).
type exception struct{ unit, function, code byte }

var exceptions = map[byte]string{
	0x01: "illegal function: the unit does not know this kind of access",
	0x02: "illegal data address: the unit has no such address there, or not as many",
	0x03: "illegal data value: the unit does not take this value or number",
	0x04: "server device failure: the unit failed while it did this",
	0x05: "acknowledge: the unit takes longer for this",
	0x06: "server device busy: the unit is busy with something longer, try again later",
	0x08: "memory parity error: the unit's memory is damaged",
	0x0A: "gateway path unavailable: the Modbus gateway has no way to the unit",
	0x0B: "gateway target device failed to respond: behind the Modbus gateway nobody answers",
}

func (e *exception) Error() string {
	text := exceptions[e.code]
	if text == "" {
		text = "an exception that the specification does not know"
	}
	return fmt.Sprintf("unit %d refuses function %d with exception %d, %s", e.unit, e.function, e.code, text)
}

var (
	errSilent  = errors.New("no answer")
	errGarbled = errors.New("the answer is damaged")
	// errPort is the failure of the port, which all units of it share.
	errPort = errors.New("port")
)

// wireError is what a caller is told.
func wireError(err error) error {
	var e *exception
	switch {
	case errors.As(err, &e):
		w := wamp.Errorf(ErrModbusException, "%s", e.Error())
		w.KwArgs = wamp.Dict{"code": int64(e.code), "function": int64(e.function), "unit": int64(e.unit)}
		return w
	case errors.Is(err, errSilent):
		return wamp.Errorf(wamp.ErrTimeout, "%s", err.Error())
	case errors.Is(err, errGarbled), errors.Is(err, errPort):
		return wamp.Errorf(wamp.ErrUnavailable, "%s", err.Error())
	}
	return err
}

// readPDU asks for count coils, inputs or registers.
func readPDU(function byte, address, count int) []byte {
	return []byte{function, byte(address >> 8), byte(address), byte(count >> 8), byte(count)}
}

// writePDU writes words, or one coil; multiple chooses the function for many
// even for one.
func writePDU(coil bool, address int, words []uint16, multiple bool) []byte {
	head := []byte{0, byte(address >> 8), byte(address)}
	switch {
	case coil && multiple:
		head[0] = fcWriteCoils
		return append(head, 0, 1, 1, byte(words[0]&1))
	case coil:
		head[0] = fcWriteCoil
		return append(head, byte(0xFF*(words[0]&1)), 0)
	case len(words) == 1 && !multiple:
		head[0] = fcWriteRegister
		return binary.BigEndian.AppendUint16(head, words[0])
	}
	head[0] = fcWriteRegisters
	head = append(head, 0, byte(len(words)), byte(2*len(words)))
	for _, w := range words {
		head = binary.BigEndian.AppendUint16(head, w)
	}
	return head
}

// modbusCRC is appended with its low byte first (serial line, 2.5.1.2).
var modbusCRC = crcs["crc-16-modbus"]

func appendRTU(dst []byte, unit byte, pdu []byte) []byte {
	start := len(dst)
	dst = append(append(dst, unit), pdu...)
	return binary.LittleEndian.AppendUint16(dst, uint16(modbusCRC.of(dst[start:])))
}

// sound reports whether p is one whole frame.
func sound(p []byte) bool {
	return len(p) >= 4 && uint16(modbusCRC.of(p[:len(p)-2])) == binary.LittleEndian.Uint16(p[len(p)-2:])
}

// findAnswer looks in what has arrived for the answer of unit to the request
// pdu, with noise before it and behind it: what has the right unit, function,
// length or echo, and checksum. It returns the answer's data behind the
// function code and, for reads, the number of bytes; whole says that a frame of
// the right shape was there whose checksum was wrong.
func findAnswer(got []byte, unit byte, pdu []byte) (data []byte, whole bool, err error) {
	for i := 0; i+5 <= len(got); i++ {
		p := got[i:]
		if p[0] != unit || p[1]&^fcException != pdu[0] {
			continue
		}
		n := answerSize(p, pdu)
		if n == 0 || n > len(p) {
			continue
		}
		if !sound(p[:n]) {
			whole = true
			continue
		}
		switch {
		case p[1]&fcException != 0:
			return nil, true, &exception{unit, pdu[0], p[2]}
		case pdu[0] <= fcReadInput:
			return p[3 : n-2], true, nil
		}
		return p[2 : n-2], true, nil
	}
	return nil, whole, nil
}

// answerSize is the length of the frame that begins p if it answers pdu, 0 if it
// does not. p has five bytes or more.
func answerSize(p, pdu []byte) int {
	switch {
	case p[1]&fcException != 0:
		return 5
	case pdu[0] <= fcReadInput:
		want := answerBytes(pdu)
		if int(p[2]) != want {
			return 0
		}
		return 3 + want + 2
	}
	// Writes are answered with the address and the value or number.
	echo := min(len(p)-1, 5)
	if !bytes.Equal(p[1:1+echo], pdu[:echo]) {
		return 0
	}
	return 8
}

// answerBytes is how many bytes of data answer a read.
func answerBytes(pdu []byte) int {
	count := int(binary.BigEndian.Uint16(pdu[3:]))
	if pdu[0] <= fcReadDiscreteInputs {
		return (count + 7) / 8
	}
	return 2 * count
}
