package transport_test

import (
	"context"
	"fmt"
	"net"

	"github.com/postern-iot/postern/wamp/codec"
	"github.com/postern-iot/postern/wamp/transport"
)

// A pipe connects two peers in one process.
func ExamplePipe() {
	a, b := transport.Pipe(codec.JSON)
	defer a.Close()
	if err := a.Write([]byte(`[1,"realm1",{}]`)); err != nil {
		fmt.Println(err)
		return
	}
	m, err := b.Read()
	fmt.Println(string(m), err)
	// Output: [1,"realm1",{}] <nil>
}

// A RawSocket client and server agree on a codec in their handshake.
func ExampleDial() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	served := make(chan string)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			served <- err.Error()
			return
		}
		c, err := transport.AcceptRawSocket(conn, transport.NewRawSocket())
		if err != nil {
			served <- err.Error()
			return
		}
		defer c.Close()
		m, err := c.Read()
		served <- fmt.Sprint(c.Info().Codec.Name(), " ", string(m), " ", err)
	}()

	c, err := transport.Dial(context.Background(), "rs://"+l.Addr().String(), codec.JSON, transport.DialOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	if err := c.Write([]byte(`[1,"realm1",{}]`)); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-served)
	// Output: json [1,"realm1",{}] <nil>
}
