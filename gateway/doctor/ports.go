package doctor

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-iot/postern/gateway/config"
)

// process is one that is open to us: only root sees all.
type process struct {
	pid   int
	name  string
	opens []string // where its descriptors lead
}

func (p *process) String() string { return fmt.Sprintf("%s (process %d)", p.name, p.pid) }

// stop is what to type to have it stop.
func (p *process) stop() string {
	return fmt.Sprintf("systemctl status %d names its service, and sudo systemctl stop SERVICE ends it; or kill %d", p.pid, p.pid)
}

// maxProcesses bounds what is looked at.
const maxProcesses = 4096

// processes reads what the processes have open.
func processes(root string) []process {
	dirs, _ := filepath.Glob(filepath.Join(root, "proc/[1-9]*"))
	var all []process
	for _, dir := range dirs[:min(len(dirs), maxProcesses)] {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || root == "/" && pid == os.Getpid() {
			continue
		}
		p := process{pid: pid, name: text(filepath.Join(dir, "comm"))}
		links, _ := filepath.Glob(filepath.Join(dir, "fd/*"))
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && (strings.HasPrefix(to, "/dev/") || strings.HasPrefix(to, "socket:")) {
				p.opens = append(p.opens, to)
			}
		}
		all = append(all, p)
	}
	return all
}

// opener is a process that has a device open, nil for none that can be seen.
func (e *examination) opener(path string) *process {
	i := slices.IndexFunc(e.procs, func(p process) bool { return slices.Contains(p.opens, path) })
	if i < 0 {
		return nil
	}
	return &e.procs[i]
}

// socket is a TCP socket that listens.
type socket struct {
	ip    net.IP
	port  int
	inode string
}

// listening reads the sockets that listen: /proc/net/tcp of proc(5).
func (e *examination) listening() []socket {
	var all []socket
	for _, name := range []string{"tcp", "tcp6"} {
		content, err := os.ReadFile(e.at("/proc/net/" + name))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" { // TCP_LISTEN
				continue
			}
			address, port, _ := strings.Cut(f[1], ":")
			raw, err1 := hex.DecodeString(address)
			n, err2 := strconv.ParseUint(port, 16, 16)
			if err1 != nil || err2 != nil || len(raw)%4 != 0 {
				continue
			}
			for i := 0; i < len(raw); i += 4 { // each word as the processor has it: little-endian
				slices.Reverse(raw[i : i+4])
			}
			all = append(all, socket{ip: raw, port: int(n), inode: f[9]})
		}
	}
	return all
}

// endpoint is an address that the configuration listens on.
type endpoint struct{ what, address string }

func endpoints(cfg *config.Config) []endpoint {
	var all []endpoint
	add := func(what string, addresses []string) {
		for _, a := range addresses {
			if !strings.HasPrefix(a, config.Systemd) {
				all = append(all, endpoint{what, a})
			}
		}
	}
	add("listen.http", cfg.Listen.HTTP.Addresses)
	add("listen.rawsocket", cfg.Listen.RawSocket.Addresses)
	add("listen.universal", cfg.Listen.Universal.Addresses)
	if cfg.MQTT.Enabled {
		add("mqtt", cfg.MQTT.Listen)
		add("mqtt.tls", cfg.MQTT.TLS.Listen)
		add("mqtt.websocket", cfg.MQTT.WebSocket.Listen)
	}
	return all
}

// lowest is the first port that everybody may listen on.
func (e *examination) lowest() int {
	if n, err := strconv.Atoi(text(e.at("/proc/sys/net/ipv4/ip_unprivileged_port_start"))); err == nil {
		return n
	}
	return 1024
}

// ports looks whether the addresses can be listened on.
func (e *examination) ports() string {
	all := endpoints(e.Config)
	sockets := e.listening()
	var list []string
	for _, p := range all {
		list = append(list, p.address)
		host, portText, err := net.SplitHostPort(p.address)
		port, _ := strconv.Atoi(portText)
		if err != nil || port == 0 {
			continue
		}
		ip := net.ParseIP(host)
		if host == "localhost" {
			ip = net.IPv4(127, 0, 0, 1)
		}
		if ip != nil && !ip.IsUnspecified() && !ip.IsLoopback() && e.Addresses != nil && !slices.ContainsFunc(e.Addresses, ip.Equal) {
			e.problem("", fmt.Sprintf("%s of %s is not an address of this machine", host, p.what), "the gateway does not start",
				"ip -brief address shows those that it has; 0.0.0.0:"+portText+" listens on all")
		}
		if port < e.lowest() && e.user.uid != 0 && e.Gateway == "" {
			e.problem("", fmt.Sprintf("%s may not listen on port %d, as %s wants", e.user.name, port, p.what), "the gateway does not start",
				"sudo systemctl edit postern, and write [Service] and AmbientCapabilities=CAP_NET_BIND_SERVICE; or use a port above 1023")
		}
		i := slices.IndexFunc(sockets, func(s socket) bool {
			return s.port == port && (ip == nil || ip.IsUnspecified() || s.ip.IsUnspecified() || s.ip.Equal(ip))
		})
		if i < 0 || e.Gateway != "" {
			continue
		}
		holder, do := "another program (only root sees which)", fmt.Sprintf("sudo ss -ltnp 'sport = :%d' shows it; stop it, or give %s another port", port, p.what)
		if h := e.opener("socket:[" + sockets[i].inode + "]"); h != nil {
			holder, do = h.String(), h.stop()
		}
		e.problem("", fmt.Sprintf("%s of %s is taken by %s", p.address, p.what, holder), "the gateway does not start", do)
	}
	state := "free"
	if e.Gateway != "" {
		state = "the gateway's"
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ") + ": " + state
}
