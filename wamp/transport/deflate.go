package transport

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

// Per-message compression of WebSocket (RFC 7692), without context takeover:
// no message depends on another one, so nothing is kept between them, and a
// connection costs no more for it while it is idle.

const (
	deflateName = "permessage-deflate"
	// deflateTail ends what a flush writes, and is left out on the wire (7.2.1).
	deflateTail = "\x00\x00\xff\xff"
	// deflateLeast is the size from which compressing pays.
	deflateLeast = 128
)

var (
	deflaters = sync.Pool{New: func() any {
		w, _ := flate.NewWriter(io.Discard, flate.BestSpeed) // fails for unknown levels only
		return w
	}}
	inflaters = sync.Pool{New: func() any { return flate.NewReader(strings.NewReader("")) }}
)

// offersDeflate reports whether a client offers compression in a way that we can
// take: our window is 32 KiB always.
func offersDeflate(h http.Header) bool {
	for _, line := range h.Values("Sec-Websocket-Extensions") {
		for offer := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(offer, ";")
			if strings.EqualFold(strings.TrimSpace(name), deflateName) && deflateParams(params) {
				return true
			}
		}
	}
	return false
}

// deflateParams reports whether the parameters of an offer are known, each once,
// and acceptable (7.1).
func deflateParams(params string) bool {
	seen := map[string]bool{}
	for param := range strings.SplitSeq(params, ";") {
		if params == "" {
			return true
		}
		name, value, valued := strings.Cut(param, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.Trim(strings.TrimSpace(value), `"`)
		bits, err := strconv.Atoi(value)
		ok := false
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			ok = !valued
		case "client_max_window_bits":
			ok = !valued || err == nil && bits >= 8 && bits <= 15
		case "server_max_window_bits":
			ok = value == "15"
		}
		if !ok || seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

// deflate returns m as it is sent. What is short is put in a stored block: that
// takes no time, and six bytes more.
func deflate(m []byte) []byte {
	if len(m) < deflateLeast {
		out := make([]byte, 0, len(m)+6)
		out = binary.LittleEndian.AppendUint16(append(out, 0), uint16(len(m)))
		out = binary.LittleEndian.AppendUint16(out, ^uint16(len(m)))
		return append(append(out, m...), 0)
	}
	var out bytes.Buffer
	out.Grow(len(m) / 2)
	w := deflaters.Get().(*flate.Writer)
	w.Reset(&out)
	_, _ = w.Write(m) // a buffer takes everything
	_ = w.Flush()
	w.Reset(io.Discard) // it keeps no reference to what was written
	deflaters.Put(w)
	return bytes.TrimSuffix(out.Bytes(), []byte(deflateTail))
}

// inflate returns the message that was received as m. It makes no more room than
// for limit bytes, and no more than for twice what has come out.
func (c *webSocketConn) inflate(m []byte, limit int) ([]byte, error) {
	r := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(r)
	// The last block is ours: it is how the reader knows that it is over.
	in := io.MultiReader(bytes.NewReader(m), strings.NewReader(deflateTail+"\x01\x00\x00\xff\xff"))
	_ = r.(flate.Resetter).Reset(in, nil) // which never fails
	out := make([]byte, 0, min(limit, max(512, 2*len(m))))
	for {
		if len(out) == cap(out) {
			if len(out) == limit {
				var more [1]byte
				if n, err := io.ReadFull(r, more[:]); n == 0 && err == io.EOF {
					return out, nil
				} else if n == 0 {
					return nil, c.broken("it does not decompress: %v", err)
				}
				c.code.Store(websocket.CloseMessageTooBig)
				return nil, fmt.Errorf("%w: it decompresses to more than the limit of %d bytes", ErrTooLarge, limit)
			}
			out = append(make([]byte, 0, min(limit, 2*cap(out))), out...)
		}
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case err == io.EOF:
			return out, nil
		case err != nil:
			return nil, c.broken("it does not decompress: %v", err)
		}
	}
}

// deflated is messages as they are sent: compressed where that is agreed upon.
func (c *webSocketConn) deflated(messages [][]byte) [][]byte {
	if !c.deflate {
		return messages
	}
	out := make([][]byte, len(messages))
	for i, m := range messages {
		out[i] = deflate(m)
	}
	return out
}
