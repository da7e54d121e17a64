package serial

import "bytes"

// framer cuts a stream into lines. It keeps at most one line; one that grows
// beyond max is skipped up to its delimiter.
type framer struct {
	delimiter []byte
	max       int
	buf       []byte
	searched  int  // how much of buf has no delimiter for sure
	skipping  bool // the rest of a line that was too long
}

// feed takes what was read and calls line with every line that it completes,
// without the delimiter, valid during the call. It returns how many lines
// turned out too long.
func (f *framer) feed(p []byte, line func([]byte)) (tooLong int) {
	f.buf = append(f.buf, p...)
	start := 0
	for {
		i := bytes.Index(f.buf[start+f.searched:], f.delimiter)
		if i < 0 {
			break
		}
		end := start + f.searched + i
		switch {
		case f.skipping:
			f.skipping = false
		case end-start > f.max:
			tooLong++
		default:
			line(f.buf[start:end])
		}
		start = end + len(f.delimiter)
		f.searched = 0
	}
	rest := f.buf[start:]
	// The delimiter may have begun at the end.
	tail := min(len(rest), len(f.delimiter)-1)
	if !f.skipping && len(rest)-tail > f.max {
		f.skipping = true
		tooLong++
	}
	if f.skipping {
		rest = rest[len(rest)-tail:]
	}
	f.buf = append(f.buf[:0], rest...)
	f.searched = max(0, len(f.buf)-(len(f.delimiter)-1))
	return tooLong
}
