package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/postern-iot/postern/wamp/codec"
)

func TestPipeKeepsOrderAndCopies(t *testing.T) {
	a, b := Pipe(codec.JSON)
	defer a.Close()
	m := []byte("first")
	if err := a.Write(m, []byte("second")); err != nil {
		t.Fatal(err)
	}
	m[0] = 'X' // the writer may use its buffer again
	for _, want := range []string{"first", "second"} {
		if got, err := b.Read(); err != nil || string(got) != want {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
	if i := a.Info(); i.Transport != "pipe" || i.Codec != codec.JSON || i.Remote != nil || i.MaxWrite != 0 {
		t.Errorf("info %+v", i)
	}
}

func TestPipeBlocksWhenFull(t *testing.T) {
	for _, tt := range []struct {
		name     string
		size     int
		messages int // what fits
	}{
		{"by messages", 1, pipeMessages},
		{"by bytes", pipeBytes / 4, 4},
		{"one above the bound", 2 * pipeBytes, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := Pipe(codec.CBOR)
				m := make([]byte, tt.size)
				for range tt.messages {
					if err := a.Write(m); err != nil {
						t.Fatal(err)
					}
				}
				done := make(chan error, 1)
				go func() { done <- a.Write(m) }()
				synctest.Wait()
				select {
				case err := <-done:
					t.Fatalf("a write into a full pipe returned: %v", err)
				default:
				}
				if _, err := b.Read(); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestPipeClose(t *testing.T) {
	for _, closer := range []string{"writer", "reader"} {
		t.Run("by the "+closer, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := Pipe(codec.CBOR)
				if err := a.Write([]byte("1"), []byte("2")); err != nil {
					t.Fatal(err)
				}
				reads, writes := make(chan error, 1), make(chan error, 1)
				go func() { _, err := a.Read(); reads <- err }()
				go func() { writes <- a.Write(make([]byte, pipeBytes)) }() // full
				synctest.Wait()
				if closer == "writer" {
					a.Close()
				} else {
					b.Close()
				}
				if err := <-reads; err != io.EOF {
					t.Errorf("blocked Read: %v, want io.EOF", err)
				}
				if err := <-writes; !errors.Is(err, net.ErrClosed) {
					t.Errorf("blocked Write: %v, want net.ErrClosed", err)
				}
				for _, want := range []string{"1", "2"} {
					if got, err := b.Read(); err != nil || string(got) != want {
						t.Errorf("drained %q, %v; want %q", got, err, want)
					}
				}
				for range 2 {
					if _, err := b.Read(); err != io.EOF {
						t.Errorf("after draining: %v, want io.EOF", err)
					}
				}
				a.Close()
				b.Close()
			})
		})
	}
}

func TestPipeReadLimit(t *testing.T) {
	a, b := Pipe(codec.CBOR)
	b.SetReadLimit(10)
	if err := a.Write(make([]byte, 10), make([]byte, 11), []byte("never")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(); err != nil {
		t.Fatalf("at the limit: %v", err)
	}
	if _, err := b.Read(); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("above the limit: %v", err)
	}
	if _, err := b.Read(); err == nil {
		t.Fatal("the error was not final")
	}
	if err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("write to an ended pipe: %v", err)
	}
}

func TestPipeCarriesABurst(t *testing.T) {
	a, b := Pipe(codec.CBOR)
	defer a.Close()
	const n = 20_000
	failed := make(chan error, 1)
	go func() {
		var batch [][]byte
		for i := range n {
			if batch = append(batch, fmt.Appendf(nil, "%d", i)); len(batch) == 7 {
				if err := a.Write(batch...); err != nil {
					failed <- err
					return
				}
				batch = batch[:0]
			}
		}
		failed <- a.Write(batch...)
	}()
	for i := range n {
		got, err := b.Read()
		if err != nil || !bytes.Equal(got, fmt.Appendf(nil, "%d", i)) {
			t.Fatalf("message %d: %q, %v", i, got, err)
		}
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}
