package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

const (
	// batchSuffix is what the subprotocols of batched transports end with.
	batchSuffix = ".batched"
	// batchEnd follows each JSON message of a batch. The text calls it \30 and
	// 0x1e, and autobahn-python reads the former as an octal number: 0x18.
	batchEnd, batchEndOctal = 0x1e, 0x18
	// batchSize is how large a batch of several messages may get.
	batchSize = 64 << 10
)

// batching is the framing of a batched connection. No JSON text holds either of
// the separators as it is, so both are understood, and the peer gets the one
// that it used last.
type batching struct {
	binary bool
	end    atomic.Uint32 // 0 means batchEnd
}

// append appends a message as a batch has it ("Message Batching"): JSON
// followed by a record separator, others preceded by their length.
func (b *batching) append(dst, m []byte) []byte {
	if !b.binary {
		end := byte(b.end.Load())
		if end == 0 {
			end = batchEnd
		}
		return append(append(dst, m...), end)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(m))), m...)
}

// cut takes the first message off a batch; both results are parts of it. A
// batch of nothing is illegal, and so is one that ends within a message.
func (b *batching) cut(batch []byte) (m, rest []byte, err error) {
	if len(batch) == 0 {
		return nil, nil, fmt.Errorf("%w: a batch without a message", ErrFraming)
	}
	if !b.binary {
		i := bytes.IndexAny(batch, "\x1e\x18")
		if i < 0 {
			return nil, nil, fmt.Errorf("%w: the last message of a batch does not end with 0x1e", ErrFraming)
		}
		b.end.Store(uint32(batch[i]))
		return batch[:i:i], batch[i+1:], nil
	}
	if len(batch) < 4 {
		return nil, nil, fmt.Errorf("%w: a batch ends within a length", ErrFraming)
	}
	n := uint64(binary.BigEndian.Uint32(batch))
	if batch = batch[4:]; n > uint64(len(batch)) {
		return nil, nil, fmt.Errorf("%w: a message of a batch claims %d bytes, and %d are left", ErrFraming, n, len(batch))
	}
	return batch[:n:n], batch[n:], nil
}
