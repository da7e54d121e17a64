//go:build linux

package appliance

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"
)

// maxLog is the size at which a log becomes the old one; there is one old one.
const maxLog = 1 << 20

// maxLines bounds the lines that wait for the console.
const maxLines = 256

// console is the machine's console. A serial line may take its time, or never
// take anything when its other end says so: nobody waits for it, and what it
// cannot take is lost there.
type console struct {
	lines chan []byte
	idle  chan struct{} // taken when nothing waits
}

// newConsole starts the goroutine that writes, for as long as the machine runs.
func newConsole(w io.Writer) *console {
	c := &console{lines: make(chan []byte, maxLines), idle: make(chan struct{})}
	go func() {
		for {
			select {
			case line := <-c.lines:
				_, _ = w.Write(line)
				continue
			default:
			}
			select {
			case line := <-c.lines:
				_, _ = w.Write(line)
			case c.idle <- struct{}{}:
			}
		}
	}()
	return c
}

func (c *console) Write(p []byte) (int, error) {
	select {
	case c.lines <- bytes.Clone(p):
	default:
	}
	return len(p), nil
}

// drain waits until all is written, but no longer than a second.
func (c *console) drain() {
	select {
	case <-c.idle:
	case <-time.After(time.Second):
	}
}

// logFile is a log on the card, and on the console as well. A card that is full
// or broken takes no lines, and stops nobody.
type logFile struct {
	mu      sync.Mutex
	path    string
	console io.Writer
	file    *os.File
	size    int64
}

func openLog(path string, console io.Writer) *logFile {
	l := &logFile{path: path, console: console}
	l.open()
	return l
}

func (l *logFile) open() {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	l.file, l.size = f, 0
	if info, err := f.Stat(); err == nil {
		l.size = info.Size()
	}
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.console.Write(p)
	if l.file == nil {
		return len(p), nil
	}
	if l.size+int64(len(p)) > maxLog {
		l.file.Close()
		l.file = nil
		_ = os.Rename(l.path, l.path+".old")
		if l.open(); l.file == nil {
			return len(p), nil
		}
	}
	n, _ := l.file.Write(p)
	l.size += int64(n)
	return len(p), nil
}
