package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	// batchSuffix is what the subprotocols of batched transports end with.
	batchSuffix = ".batched"
	// batchEnd follows each JSON message of a batch.
	batchEnd = 0x1e
	// batchSize is how large a batch of several messages may get.
	batchSize = 64 << 10
)

// appendBatched appends a message as a batch has it ("Message Batching"): JSON
// followed by a record separator, others preceded by their length.
func appendBatched(dst, m []byte, binaryCodec bool) []byte {
	if !binaryCodec {
		return append(append(dst, m...), batchEnd)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(m))), m...)
}

// cutBatch takes the first message off a batch; both results are parts of it. A
// batch of nothing is illegal, and so is one that ends within a message.
func cutBatch(batch []byte, binaryCodec bool) (m, rest []byte, err error) {
	if len(batch) == 0 {
		return nil, nil, fmt.Errorf("%w: a batch without a message", ErrFraming)
	}
	if !binaryCodec {
		m, rest, ended := bytes.Cut(batch, []byte{batchEnd})
		if !ended {
			return nil, nil, fmt.Errorf("%w: the last message of a batch does not end with 0x1e", ErrFraming)
		}
		return m, rest, nil
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
