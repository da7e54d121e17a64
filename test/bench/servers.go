//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/postern-iot/postern/wamp/codec"
)

// server is one program under load.
type server struct {
	name    string
	cmd     *exec.Cmd
	said    bytes.Buffer
	started time.Duration // from its start to its first accepted connection
	peers   map[string]func(codec.Codec) peer
}

// launch starts a program and waits until it listens.
func launch(s *server, address string, args ...string) (*server, error) {
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	for time.Since(begin) < 10*time.Second {
		nc, err := net.Dial("tcp", address)
		if err == nil {
			s.started = time.Since(begin)
			return s, nc.Close()
		}
		time.Sleep(500 * time.Microsecond)
	}
	s.stop()
	return nil, fmt.Errorf("%s does not listen at %s; it said: %s", s.name, address, s.said.String())
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill() // nothing of it is kept
	_ = s.cmd.Wait()
}

// freeAddress is a loopback address that nobody listens on now.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// bench is where the servers come from.
type bench struct {
	dir, postern, self string
	other              string // name=program
	starts             int
}

const posternConfig = `
listen:
  http: {addresses: [%q]}
  rawsocket: {addresses: [%q]}
  unix: {path: %q}
realms:
  - name: realm1
    anonymous: anyone
    roles:
      - {name: anyone, permissions: [{uri: "", match: prefix, allow: [call, register, publish, subscribe]}]}
    limits: {subscriptions: 200000, registrations: 200000}
mqtt: {enabled: false}
log: {level: warn}
`

func (b *bench) startPostern() (*server, error) {
	web, err := freeAddress()
	if err != nil {
		return nil, err
	}
	raw, err := freeAddress()
	if err != nil {
		return nil, err
	}
	b.starts++
	base := filepath.Join(b.dir, "postern"+strconv.Itoa(b.starts))
	socket := base + ".sock"
	if err := os.WriteFile(base+".yaml", fmt.Appendf(nil, posternConfig, web, raw, socket), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: "postern", peers: map[string]func(codec.Codec) peer{
		"websocket": func(c codec.Codec) peer { return &wampPeer{network: "tcp", address: web, path: "/ws", codec: c} },
		"rawsocket": func(c codec.Codec) peer { return &wampPeer{network: "tcp", address: raw, raw: true, codec: c} },
		"unix":      func(c codec.Codec) peer { return &wampPeer{network: "unix", address: socket, raw: true, codec: c} },
	}}
	return launch(s, web, b.postern, "run", "-c", base+".yaml")
}

const mosquittoConfig = `
listener %d 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 0
log_type error
user root
`

func (b *bench) startMosquitto() (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	port := address[strings.LastIndexByte(address, ':')+1:]
	n, _ := strconv.Atoi(port)
	file := filepath.Join(b.dir, "mosquitto.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, mosquittoConfig, n), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: "mosquitto", peers: map[string]func(codec.Codec) peer{
		"mqtt": func(codec.Codec) peer { return mqttPeer{address} },
	}}
	return launch(s, address, find("mosquitto"), "-c", file)
}

func (b *bench) startNATS() (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	host, port, _ := strings.Cut(address, ":")
	s := &server{name: "nats-server", peers: map[string]func(codec.Codec) peer{
		"nats": func(codec.Codec) peer { return natsPeer{address} },
	}}
	return launch(s, address, find("nats-server"), "-a", host, "-p", port)
}

func (b *bench) startRelay() (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &server{name: "raw relay", peers: map[string]func(codec.Codec) peer{
		"tcp": func(codec.Codec) peer { return relayPeer{address} },
	}}
	return launch(s, address, b.self, "-relay", address)
}

// startOther starts another WAMP router, given as name=program. The program
// gets the address at which to serve WebSocket, with an open realm realm1.
func (b *bench) startOther() (*server, error) {
	name, program, _ := strings.Cut(b.other, "=")
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &server{name: name, peers: map[string]func(codec.Codec) peer{
		"websocket": func(c codec.Codec) peer { return &wampPeer{network: "tcp", address: address, path: "/", codec: c} },
	}}
	return launch(s, address, program, address)
}

// find finds a server that Debian installs where only root looks.
func find(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return "/usr/sbin/" + name
}

// cpu is the processor time that the program has used.
func (s *server) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything; user and system time are the
	// 14th and 15th field, in ticks of 10 ms.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err, err2)
}

// rss is the memory that the program holds, in KiB.
func (s *server) rss() (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, errors.New("no VmRSS in /proc/PID/status")
}
