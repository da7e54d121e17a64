package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/router"
	"github.com/postern-iot/postern/wamp/auth"
)

const mqttPatience = 10 * time.Second

// secured is a gateway with users who may do little, and some more.
func secured(t *testing.T) *config.Config {
	t.Helper()
	cfg := demo(t)
	r := &cfg.Router.Realms[0]
	r.Anonymous = ""
	r.Roles = []router.RoleConfig{
		{Name: "device", Permissions: []router.PermissionConfig{
			{URI: "mqtt.own.", Match: "prefix", Allow: []string{"publish", "subscribe"}},
			{URI: "mqtt.own.secret", Match: "exact"},
		}},
		{Name: "viewer", Permissions: []router.PermissionConfig{
			{URI: "mqtt.", Match: "prefix", Allow: []string{"subscribe"}},
			{URI: "device.", Match: "prefix", Allow: []string{"subscribe"}},
			{URI: "mqtt.own.hidden", Match: "exact"},
		}},
		{Name: "operator", Permissions: []router.PermissionConfig{{Match: "prefix", Allow: []string{"publish", "subscribe"}}}},
	}
	users := &router.Users{Seed: []byte("seed")}
	scram, err := auth.NewScramKeys("sc", auth.ScramParams{KDF: auth.KDFPBKDF2, Iterations: 4096, Salt: []byte("0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	users.Users = append(users.Users, router.User{AuthID: "sue", Role: "viewer", Scram: scram},
		router.User{AuthID: "carl", Role: "viewer", CRA: auth.NewCRAKey("cr", nil)})
	r.Auth.UsersFile = filepath.Join(t.TempDir(), "users.json")
	if err := users.Write(r.Auth.UsersFile); err != nil {
		t.Fatal(err)
	}
	r.Auth.Users = []router.UserConfig{
		{AuthID: "dev1", Role: "device", Secret: "d1"},
		{AuthID: "dev2", Role: "device", Secret: "d2"},
		{AuthID: "val", Role: "viewer", Secret: "v"},
		{AuthID: "op", Role: "operator", Secret: "o"},
	}
	cfg.MQTT.RealmUsers = true // as reading the file would find
	return cfg
}

// mqttClient connects, or says why not.
func mqttClient(t *testing.T, url, user, password, id string, change ...func(*mqtt.ClientOptions)) (mqtt.Client, error) {
	t.Helper()
	o := mqtt.NewClientOptions().AddBroker(url).SetAutoReconnect(false).SetUsername(user).SetPassword(password).
		SetClientID(id).SetProtocolVersion(4).SetConnectionLostHandler(func(mqtt.Client, error) {})
	for _, f := range change {
		f(o)
	}
	c := mqtt.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(mqttPatience) {
		t.Fatalf("%s: no answer to CONNECT", id)
	}
	t.Cleanup(func() { c.Disconnect(50) })
	return c, token.Error()
}

func (u *up) mqttURL(scheme string, i int) string {
	return fmt.Sprintf("%s://%s", scheme, u.Addresses().MQTT[i])
}

// device is a client that must connect.
func (u *up) device(user, password, id string, change ...func(*mqtt.ClientOptions)) mqtt.Client {
	u.t.Helper()
	c, err := mqttClient(u.t, u.mqttURL("tcp", 0), user, password, id, change...)
	if err != nil {
		u.t.Fatalf("%s as %s: %v", user, id, err)
	}
	return c
}

// sub subscribes and says whether that was granted.
func sub(t *testing.T, c mqtt.Client, filter string) (messages chan mqtt.Message, granted bool) {
	t.Helper()
	messages = make(chan mqtt.Message, 100)
	token := c.Subscribe(filter, 1, func(_ mqtt.Client, m mqtt.Message) { messages <- m })
	if !token.WaitTimeout(mqttPatience) {
		t.Fatalf("%q: no SUBACK", filter)
	}
	return messages, token.(*mqtt.SubscribeToken).Result()[filter] < 0x80
}

func pub(t *testing.T, c mqtt.Client, topic, payload string, retain bool) {
	t.Helper()
	token := c.Publish(topic, 1, retain, payload)
	if !token.WaitTimeout(mqttPatience) || token.Error() != nil {
		t.Fatalf("publish to %q: %v", topic, token.Error())
	}
}

func next(t *testing.T, messages chan mqtt.Message, topic, payload string) {
	t.Helper()
	select {
	case m := <-messages:
		if m.Topic() != topic || string(m.Payload()) != payload {
			t.Errorf("got %s %.20q, want %s %.20q", m.Topic(), m.Payload(), topic, payload)
		}
	case <-time.After(mqttPatience):
		t.Fatalf("%s %.20q did not arrive", topic, payload)
	}
}

func TestMQTTUsersOfTheRealm(t *testing.T) {
	u := start(t, secured(t))
	for _, c := range []struct {
		user, password string
		ok             bool
	}{
		{"dev1", "d1", true},
		{"dev1", "d2", false},
		{"dev1", "", false},
		{"sue", "sc", true}, // has SCRAM keys only
		{"sue", "x", false},
		{"carl", "cr", true}, // has a CRA key only
		{"carl", "x", false},
		{"nobody", "d1", false},
		{"", "", false},
	} {
		_, err := mqttClient(t, u.mqttURL("tcp", 0), c.user, c.password, "id-"+c.user+c.password)
		if (err == nil) != c.ok {
			t.Errorf("%q with %q: %v", c.user, c.password, err)
		}
	}
	if s := u.router.Stats(); s.AuthFailed < 4 {
		t.Errorf("the router has counted %d failures", s.AuthFailed)
	}
}

func TestMQTTPermissions(t *testing.T) {
	u := start(t, secured(t))
	dev, viewer, op := u.device("dev1", "d1", "d"), u.device("val", "v", "v"), u.device("op", "o", "o")
	for _, c := range []struct {
		who     mqtt.Client
		filter  string
		granted bool
	}{
		{dev, "own/#", true},
		{dev, "own/secret", false},
		{dev, "own/+/x", true},
		{dev, "#", false},
		{dev, "+/x", false},
		{dev, "other/x", false},
		{dev, "$SYS/#", false},
		{viewer, "#", true},
		{op, "#", true},
	} {
		if _, granted := sub(t, c.who, c.filter); granted != c.granted {
			t.Errorf("%q: granted %v", c.filter, granted)
		}
	}
	// What a subscription covers is held back where a more specific rule denies it,
	// live and retained.
	late := u.device("val", "v", "late")
	pub(t, op, "own/hidden", "h", true)
	// The broker acknowledges before it has passed a message on: who subscribes in
	// between has it twice.
	passed, _ := sub(t, op, "own/seen")
	pub(t, op, "own/seen", "s", true)
	next(t, passed, "own/seen", "s")
	messages, _ := sub(t, late, "own/#")
	next(t, messages, "own/seen", "s")
	pub(t, op, "own/hidden", "h2", false)
	pub(t, dev, "own/seen", "s2", false)
	next(t, messages, "own/seen", "s2")
	// Who may not publish is disconnected (MQTT 3.1.1, 3.3.5), and nobody hears it.
	viewer.Publish("own/seen", 1, false, "forged").WaitTimeout(time.Second)
	until(t, "the viewer is disconnected", func() bool { return !viewer.IsConnectionOpen() })
	pub(t, dev, "own/seen", "s3", false)
	next(t, messages, "own/seen", "s3")
	// A last will is a publication.
	will := func(o *mqtt.ClientOptions) { o.SetWill("own/seen", "gone", 1, false) }
	if _, err := mqttClient(t, u.mqttURL("tcp", 0), "val", "v", "w1", will); err == nil {
		t.Error("a viewer has a last will")
	}
	if _, err := mqttClient(t, u.mqttURL("tcp", 0), "dev2", "d2", "w2", will); err != nil {
		t.Errorf("a device's last will: %v", err)
	}
	if s := u.broker.Stats(); s.Denied < 8 {
		t.Errorf("%d denied", s.Denied)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, end := time.NewTicker(5*time.Millisecond), time.After(mqttPatience)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not within %v", what, mqttPatience)
		}
	}
}

func TestMQTTClientIDIsItsUsers(t *testing.T) {
	u := start(t, secured(t))
	persistent := func(o *mqtt.ClientOptions) { o.SetCleanSession(false) }
	first := u.device("dev1", "d1", "pump", persistent)
	if _, err := mqttClient(t, u.mqttURL("tcp", 0), "dev2", "d2", "pump", persistent); err == nil {
		t.Error("another user has taken the session over")
	}
	if !first.IsConnectionOpen() {
		t.Error("the attempt has ended the session")
	}
	first.Disconnect(100)
	if _, err := mqttClient(t, u.mqttURL("tcp", 0), "dev2", "d2", "pump"); err == nil {
		t.Error("another user has taken the kept session over")
	}
	again := u.device("dev1", "d1", "pump", persistent)
	u.device("dev1", "d1", "pump") // the same user may, and ends it: a clean session
	until(t, "the older connection ends", func() bool { return !again.IsConnectionOpen() })
}

// TestMQTTTransports: TLS with and without a client certificate, WebSocket on
// the HTTP port and on its own, and a Unix socket.
func TestMQTTTransports(t *testing.T) {
	cfg := secured(t)
	dir := t.TempDir()
	server, _ := certificate(t, dir, "server")
	client, pair := certificate(t, dir, "client")
	cfg.MQTT.TLS.Listen, cfg.MQTT.WebSocket.Listen = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	cfg.MQTT.TLS.Cert, cfg.MQTT.TLS.Key, cfg.MQTT.TLS.ClientCA, cfg.MQTT.TLS.ClientAuth = server+".crt", server+".key", client+".crt", "optional"
	cfg.MQTT.Unix.Path = filepath.Join(dir, "mqtt.sock")
	cfg.Router.Realms[0].Auth.Users = append(cfg.Router.Realms[0].Auth.Users,
		router.UserConfig{AuthID: "cam", Role: "device", Certificates: []string{"subject:CN=client"}})
	u := start(t, cfg)
	secure := func(o *mqtt.ClientOptions) {
		o.SetTLSConfig(&tls.Config{InsecureSkipVerify: true}) // the server's name is not what is tested
	}
	shown := func(o *mqtt.ClientOptions) {
		o.SetTLSConfig(&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
	}
	elsewhere := func(o *mqtt.ClientOptions) { o.SetHTTPHeaders(http.Header{"Origin": {"http://evil.example"}}) }
	http := "ws://" + u.Addresses().HTTP[0].String() + "/mqtt"
	for _, c := range []struct {
		name, url, user, password string
		change                    func(*mqtt.ClientOptions)
		ok                        bool
	}{
		{"tls", u.mqttURL("ssl", 1), "dev1", "d1", secure, true},
		{"tls, wrong password", u.mqttURL("ssl", 1), "dev1", "x", secure, false},
		{"certificate", u.mqttURL("ssl", 1), "", "", shown, true},
		{"certificate of another user", u.mqttURL("ssl", 1), "dev1", "", shown, false},
		{"websocket", u.mqttURL("ws", 2) + "/any", "dev1", "d1", nil, true},
		{"websocket from another page", u.mqttURL("ws", 2), "dev1", "d1", elsewhere, false},
		{"http port", http, "dev1", "d1", nil, true},
		{"http port, anonymous", http, "", "", nil, false},
		{"http port from another page", http, "dev1", "d1", elsewhere, false},
		{"unix", "unix://" + cfg.MQTT.Unix.Path, "dev1", "d1", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*mqtt.ClientOptions) {}
			}
			dev, err := mqttClient(t, c.url, c.user, c.password, "t", c.change, func(o *mqtt.ClientOptions) { o.SetConnectTimeout(mqttPatience) })
			if (err == nil) != c.ok {
				t.Fatalf("connect: %v", err)
			}
			if !c.ok {
				return
			}
			messages, _ := sub(t, dev, "own/#")
			large := string(make([]byte, 100_000)) // more than one WebSocket frame of a client that is not known may have
			pub(t, dev, "own/x", large, false)
			next(t, messages, "own/x", large)
			dev.Disconnect(100)
			until(t, "the session is gone", func() bool { return u.broker.Stats().Sessions == 0 })
		})
	}
}

// TestMQTTGuessing: the router's throttle counts what MQTT clients try.
func TestMQTTGuessing(t *testing.T) {
	u := start(t, secured(t))
	for i := range 25 {
		mqttClient(t, u.mqttURL("tcp", 0), "dev1", "wrong", fmt.Sprint("g", i))
		if u.router.Stats().AuthRefused > 0 {
			break
		}
	}
	begun := time.Now()
	mqttClient(t, u.mqttURL("tcp", 0), "dev1", "d1", "late")
	if waited := time.Since(begun); waited < 300*time.Millisecond {
		t.Errorf("after 20 failures an attempt took %v", waited)
	}
}

// certificate writes a certificate that is its own authority, and its key.
func certificate(t *testing.T, dir, name string) (base string, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	base = filepath.Join(dir, name)
	for file, block := range map[string]*pem.Block{
		base + ".crt": {Type: "CERTIFICATE", Bytes: der}, base + ".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pair, err = tls.LoadX509KeyPair(base+".crt", base+".key"); err != nil {
		t.Fatal(err)
	}
	return base, pair
}
