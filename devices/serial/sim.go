package serial

import (
	"io"
	"net"
)

// simPort is the port whose other end is inside the process.
const simPort = "sim"

// quiet is a simulated port: what is written to it is taken, and nothing ever
// comes. Its goroutine is the other end; it ends with Close.
type quiet struct {
	net.Conn
	ended chan struct{}
}

func openSim() *quiet {
	near, far := net.Pipe()
	q := &quiet{Conn: near, ended: make(chan struct{})}
	go func() {
		defer close(q.ended)
		_, _ = io.Copy(io.Discard, far)
	}()
	return q
}

// Close closes both ends.
func (q *quiet) Close() error {
	err := q.Conn.Close()
	<-q.ended
	return err
}
