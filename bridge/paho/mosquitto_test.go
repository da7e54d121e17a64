package paho

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/postern-iot/postern/bridge"
)

// TestMosquittoOverTLS reaches Debian's mosquitto, which asks for a
// certificate, over TLS and over a WebSocket in TLS.
func TestMosquittoOverTLS(t *testing.T) {
	ca, cert, key := certificates(t)
	var ports [2]int
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = ln.Addr().(*net.TCPAddr).Port
		ln.Close()
	}
	conf := "log_type error\nallow_anonymous true\n"
	for i, protocol := range []string{"mqtt", "websockets"} {
		conf += fmt.Sprintf("listener %d 127.0.0.1\nprotocol %s\ncafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\n", ports[i], protocol, ca, cert, key)
	}
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	// As root it would give up the right to read the key; others may not choose.
	if os.Geteuid() == 0 {
		conf = "user root\n" + conf
	}
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/mosquitto", "-c", file)
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: install Debian's mosquitto (apt-get install mosquitto)", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	own := bridge.TLSConfig{CA: ca, Cert: cert, Key: key}
	for url, c := range map[string]struct {
		tls bridge.TLSConfig
		ok  bool
	}{
		fmt.Sprintf("tls://127.0.0.1:%d", ports[0]):      {own, true},
		fmt.Sprintf("wss://127.0.0.1:%d/mqtt", ports[1]): {own, true},
		fmt.Sprintf("mqtts://127.0.0.1:%d", ports[0]):    {bridge.TLSConfig{CA: ca}, false},
		fmt.Sprintf("wss://127.0.0.1:%d", ports[1]):      {bridge.TLSConfig{CA: ca}, false},
	} {
		cfg := config(url)
		cfg.TLS, cfg.Session = c.tls, "clean"
		conn, err := connect(t, cfg)
		for deadline := time.Now().Add(patience); c.ok && err != nil && time.Now().Before(deadline); {
			<-time.After(20 * time.Millisecond) // it is starting
			conn, err = connect(t, cfg)
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if err != nil {
			continue
		}
		token := conn.Publish(bridge.Message{Topic: "a", Payload: []byte("b"), QoS: 1})
		select {
		case <-token.Done():
			if token.Error() != nil {
				t.Errorf("%s: publish: %v", url, token.Error())
			}
		case <-time.After(patience):
			t.Errorf("%s: no acknowledgement", url)
		}
		now, cancel := context.WithTimeout(t.Context(), time.Second)
		conn.Close(now)
		cancel()
	}
}
