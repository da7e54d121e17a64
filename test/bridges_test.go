//go:build system

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// BenchmarkBridges carries messages of 100 bytes from one mosquitto to another,
// by this gateway and by a third mosquitto with two bridge connections, in turn:
//
//	go test -tags system -run '^$' -bench Bridges -benchtime 1x ./test
//
// It prints messages a second, the latency at 500 messages a second, and the
// CPU time of the process in between.
func BenchmarkBridges(b *testing.B) {
	dir := b.TempDir()
	a, z, middle := freePort(b), freePort(b), freePort(b)
	serve := func(name, text string) *process {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		if strings.HasSuffix(name, ".yaml") {
			return spawn(b, posternBinary, "run", "-c", file)
		}
		return spawn(b, "/usr/sbin/mosquitto", "-c", file)
	}
	const plain = "listener %d 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nlog_type error\n"
	serve("a.conf", fmt.Sprintf(plain, a))
	serve("z.conf", fmt.Sprintf(plain, z))
	for _, port := range []int{a, z} {
		listens(b, fmt.Sprintf("127.0.0.1:%d", port))
	}
	bridge := fmt.Sprintf(plain, middle)
	for name, topic := range map[string]string{"a": "m/# in 1", "z": "m/# out 1"} {
		bridge += fmt.Sprintf("connection %s\naddress 127.0.0.1:%d\ntopic %s\nclientid m%[1]s\nnotifications false\nrestart_timeout 1\ncleansession true\n",
			name, map[string]int{"a": a, "z": z}[name], topic)
	}
	others := map[string]*process{
		"mosquitto": serve("bridge.conf", bridge),
		"postern": serve("postern.yaml", fmt.Sprintf(`
listen: {http: [], rawsocket: "127.0.0.1:%d"}
realms: [{name: realm1}]
state_dir: %s
mqtt: {enabled: false}
bridge:
  brokers:
    - {name: a, urls: "tcp://127.0.0.1:%d", client_id: pa}
    - {name: z, urls: "tcp://127.0.0.1:%d", client_id: pz}
  maps:
    - {name: in, brokers: a, direction: in, mqtt: "p/{x}", wamp: "p.{x}", codec: raw}
    - {name: out, brokers: z, direction: out, mqtt: "p/{x}", wamp: "p.{x}", codec: raw}
    - {name: din, brokers: a, direction: in, mqtt: "d/{x}", wamp: "d.{x}", codec: raw}
    - {name: durable, brokers: z, direction: out, mqtt: "d/{x}", wamp: "d.{x}", codec: raw, durable: true}
`, freePort(b), filepath.Join(dir, "state"), a, z)),
	}
	talker := connectTo(b, a)
	listener := connectTo(b, z)
	var arrived atomic.Int64
	var latencies []time.Duration
	done := listener.Subscribe("#", 1, func(_ mqtt.Client, m mqtt.Message) {
		if ns, err := strconv.ParseInt(strings.TrimLeft(string(m.Payload()[:20]), " "), 10, 64); err == nil && ns > 0 {
			latencies = append(latencies, time.Duration(time.Now().UnixNano()-ns))
		}
		arrived.Add(1)
	})
	if !done.WaitTimeout(patience) || done.Error() != nil {
		b.Fatal(done.Error())
	}
	payload := func(at int64) string { return fmt.Sprintf("%20d%s", at, strings.Repeat("x", 80)) }
	for _, topic := range []string{"m/x", "p/x", "d/x"} {
		until(b, topic+" is carried", func() bool {
			before := arrived.Load()
			talker.Publish(topic, 1, false, payload(0)).Wait()
			<-time.After(20 * time.Millisecond)
			return arrived.Load() > before
		})
	}
	ways := []struct{ name, topic, process string }{{"mosquitto", "m/x", "mosquitto"}, {"postern", "p/x", "postern"}, {"postern, durable", "d/x", "postern"}}
	type figures struct{ rate, cpu, p50, p99 []float64 }
	all := map[string]*figures{}
	const n, window, rounds = 20_000, 400, 5
	for range rounds * b.N {
		for qos := range byte(2) {
			for _, w := range ways {
				key := fmt.Sprintf("QoS %d, %s", qos, w.name)
				f := all[key]
				if f == nil {
					f = &figures{}
					all[key] = f
				}
				before, cpu, began := arrived.Load(), cpuOf(b, others[w.process]), time.Now()
				for i := range int64(n) {
					talker.Publish(w.topic, qos, false, payload(0))
					for arrived.Load()-before < i-window {
						<-time.After(20 * time.Microsecond)
					}
				}
				until(b, key, func() bool { return arrived.Load()-before >= n })
				f.rate = append(f.rate, n/time.Since(began).Seconds())
				f.cpu = append(f.cpu, (cpuOf(b, others[w.process])-cpu).Seconds()*1e6/n)
				latencies = latencies[:0]
				before = arrived.Load()
				for range 500 {
					talker.Publish(w.topic, qos, false, payload(time.Now().UnixNano()))
					<-time.After(2 * time.Millisecond)
				}
				until(b, key, func() bool { return arrived.Load()-before >= 500 })
				slices.Sort(latencies)
				f.p50 = append(f.p50, latencies[len(latencies)/2].Seconds()*1e6)
				f.p99 = append(f.p99, latencies[len(latencies)*99/100].Seconds()*1e6)
			}
		}
	}
	for qos := range 2 {
		for _, w := range ways {
			key := fmt.Sprintf("QoS %d, %s", qos, w.name)
			f := all[key]
			fmt.Printf("| %s | %.0f | %.1f | %.0f | %.0f |\n", key, median(f.rate), median(f.cpu), median(f.p50), median(f.p99))
		}
	}
	talker.Disconnect(100)
	listener.Disconnect(100)
}

func connectTo(b *testing.B, port int) mqtt.Client {
	o := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).SetClientID(fmt.Sprintf("c%d", port)).SetMessageChannelDepth(1000)
	c := mqtt.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		b.Fatal(token.Error())
	}
	return c
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// cpuOf is the user and system time of a process.
func cpuOf(b *testing.B, p *process) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // of USER_HZ, 100
}
