package auth_test

import (
	"encoding"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/wamp"
	"github.com/postern-iot/postern/wamp/auth"
)

// restored is v, written and read again.
func restored[T any, P interface {
	*T
	encoding.TextMarshaler
	encoding.TextUnmarshaler
}](t *testing.T, v P) P {
	t.Helper()
	text, err := v.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	out := P(new(T))
	if err := out.UnmarshalText(text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out
}

func TestTicket(t *testing.T) {
	h := restored(t, auth.HashTicket("s3cret", nil))
	for ticket, want := range map[string]bool{"s3cret": true, "s3cres": false, "": false, strings.Repeat("x", auth.MaxTicket+1): false} {
		if h.Matches(ticket) != want {
			t.Errorf("%.20q matches: %v", ticket, !want)
		}
	}
	if (&auth.TicketHash{}).Matches("") {
		t.Error("an empty hash matches")
	}
	m, err := auth.Ticket("s3cret").Challenge(&wamp.Challenge{AuthMethod: "ticket"})
	if err != nil || m.Signature != "s3cret" {
		t.Errorf("%v %v", m, err)
	}
}

func TestCRA(t *testing.T) {
	who := wamp.Dict{"authid": "peter", "authrole": "user", "authprovider": "static", "session": uint64(7)}
	for name, key := range map[string]*auth.CRAKey{
		"plain": auth.PlainCRAKey("s3cret"), "salted": restored(t, auth.NewCRAKey("s3cret", nil)),
	} {
		c, extra, err := key.Challenge(who, time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		text := extra["challenge"].(string)
		for _, want := range []string{`"authid":"peter"`, `"session":7`, `"timestamp":"1970-01-01T00:00:01.000Z"`, `"nonce":"`, `"authmethod":"wampcra"`} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: challenge %s lacks %s", name, text, want)
			}
		}
		if _, salted := extra["salt"]; salted != (name == "salted") {
			t.Errorf("%s: %v", name, extra)
		}
		for secret, want := range map[string]bool{"s3cret": true, "wrong": false} {
			m, err := auth.CRA(secret).Challenge(&wamp.Challenge{Extra: extra})
			if err != nil || c.Signed(m) != want {
				t.Errorf("%s: %q: signed %v, %v", name, secret, !want, err)
			}
		}
		again, _, _ := key.Challenge(who, time.Unix(1, 0))
		if m, _ := auth.CRA("s3cret").Challenge(&wamp.Challenge{Extra: extra}); again.Signed(m) {
			t.Error("an answer can be replayed")
		}
	}
	if _, err := auth.CRA("x").Challenge(&wamp.Challenge{Extra: wamp.Dict{"challenge": "x", "salt": "y", "iterations": int64(1) << 40}}); err == nil {
		t.Error("the client computes whatever it is told to")
	}
}

// The test vectors of the specification ("Test Vectors").
func TestCryptosignVectors(t *testing.T) {
	const id = "62e935ae755f3d48f80d4d59f6121358c435722a67e859cc0caa8b539027f2ff"
	for _, v := range []struct{ id, key, challenge, signature string }{
		{"", "4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510", strings.Repeat("f", 64), "b32675b221f08593213737bef8240e7c15228b07028e19595294678c90d11c0cae80a357331bfc5cc9fb71081464e6e75013517c2cf067ad566a6b7b728e5d03ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"},
		{"", "d511fe78e23934b3dadb52fcd022974b80bd92bccc7c5cf404e46cc0a8a2f5cd", "b26c1f87c13fc1da14997f1b5a71995dff8fbe0a62fae8473c7bdbd05bfb607d", "d4209ad10d5aff6bfbc009d7e924795de138a63515efc7afc6b01b7fe5201372190374886a70207b042294af5bd64ce725cd8dceb344e6d11c09d1aaaf4d660fb26c1f87c13fc1da14997f1b5a71995dff8fbe0a62fae8473c7bdbd05bfb607d"},
		{id, "4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510", strings.Repeat("f", 64), "9b6f41540c9b95b4b7b281c3042fa9c54cef43c842d62ea3fd6030fcb66e70b3e80d49d44c29d1635da9348d02ec93f3ed1ef227dfb59a07b580095c2b82f80f9d16ca518aa0c2b707f2b2a609edeca73bca8dd59817a633f35574ac6fd80d00"},
		{id, "6e1fde9cf9e2359a87420b65a87dc0c66136e66945196ba2475990d8a0c3a25b", "b05e6b8ad4d69abf74aa3be3c0ee40ae07d66e1895b9ab09285a2f1192d562d2", "ee3c7644fd8070532bc1fde3d70d742267da545d8c8f03e63bda63f1ad4214f4d2c4bfdb4eb9526def42deeb7e31602a6ff99eba893e0a4ad4d45892ca75e608d2b75e24a189a7f78ca776ba36fc53f6c3e31c32f251f2c524f0a44202f2902d"},
	} {
		key, err := auth.ParsePrivateKey(v.key)
		if err != nil {
			t.Fatal(err)
		}
		challenge, _ := hex.DecodeString(v.challenge)
		channel, _ := hex.DecodeString(v.id)
		if v.id == "" {
			channel = nil
		}
		if got := auth.SignCryptosign(key, challenge, channel); got != v.signature {
			t.Errorf("%.8s: %s", v.key, got)
		}
	}
}

func TestCryptosign(t *testing.T) {
	private, public := auth.NewCryptosignKey()
	key, err := auth.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	routersPrivate, routersPublic := auth.NewCryptosignKey()
	router, _ := auth.ParsePrivateKey(routersPrivate)
	theirs, _ := auth.ParsePublicKey(routersPublic)
	client := auth.Cryptosign(key)
	if client.AuthExtra()["pubkey"] != public {
		t.Errorf("%v", client.AuthExtra())
	}
	client.Router = theirs
	c, extra, err := auth.ChallengeCryptosign(client.AuthExtra(), nil, router)
	if err != nil {
		t.Fatal(err)
	}
	m, err := client.Challenge(&wamp.Challenge{Extra: extra})
	if err != nil || !c.Signed(m) {
		t.Fatalf("%v %v", m, err)
	}
	if again, _, _ := auth.ChallengeCryptosign(client.AuthExtra(), nil, router); again.Signed(m) {
		t.Error("an answer can be replayed")
	}
	if _, err := client.Challenge(&wamp.Challenge{Extra: extra}); err == nil {
		t.Error("the router's signature can be replayed")
	}
	client.Router, client.Binding = nil, auth.BindingExporter
	_, extra, err = auth.ChallengeCryptosign(client.AuthExtra(), nil, nil)
	if err != nil || extra["channel_binding"] != nil {
		t.Errorf("without TLS: %v %v", extra, err)
	}
	if _, err := client.Challenge(&wamp.Challenge{Extra: extra}); err == nil {
		t.Error("the client goes on without the channel binding that it wants")
	}
	for _, bad := range []string{"", "zz", public + "00", strings.Repeat("z", 64)} {
		if _, _, err := auth.ChallengeCryptosign(wamp.Dict{"pubkey": bad}, nil, nil); err == nil {
			t.Errorf("public key %q is taken", bad)
		}
	}
}

func TestScram(t *testing.T) {
	salt := []byte("0123456789abcdef")
	for _, method := range []string{auth.MethodScram, auth.MethodScramOld} {
		for _, p := range []auth.ScramParams{
			{KDF: auth.KDFArgon2, Iterations: 1, Memory: 64, Salt: salt}, {KDF: auth.KDFPBKDF2, Iterations: 4096, Salt: salt},
		} {
			keys, err := auth.NewScramKeys("pencil", p)
			if err != nil {
				t.Fatal(err)
			}
			keys = restored(t, keys)
			for password, want := range map[string]bool{"pencil": true, "pen": false} {
				client := auth.Scram(method, "us,er=", password)
				c, extra, err := keys.Challenge(method, "us,er=", client.AuthExtra(), nil)
				if err != nil {
					t.Fatal(err)
				}
				m, err := client.Challenge(&wamp.Challenge{AuthMethod: method, Extra: extra})
				if err != nil {
					t.Fatal(err)
				}
				proof, ok := c.Signed(m)
				if ok != want {
					t.Errorf("%s %s: %q is accepted: %v", method, p.KDF, password, ok)
				}
				welcome := &wamp.Welcome{Details: wamp.Dict{"authextra": proof}}
				if err := client.Welcome(welcome); (err == nil) != want {
					t.Errorf("%s %s: WELCOME: %v", method, p.KDF, err)
				}
				m.Extra["nonce"] = "other"
				if _, ok := c.Signed(m); ok {
					t.Error("any nonce will do")
				}
			}
			if _, _, err := keys.Challenge(method, "user", wamp.Dict{"nonce": "bm9uY2Vub25jZQ==", "channel_binding": "tls-unique"}, nil); err == nil {
				t.Error("a channel binding without TLS")
			}
			if _, _, err := keys.Challenge(method, "user", wamp.Dict{"nonce": "short"}, nil); err == nil {
				t.Error("a nonce that is none")
			}
		}
	}
	client := auth.Scram(auth.MethodScram, "user", "pencil")
	nonce := client.AuthExtra()["nonce"].(string)
	for name, extra := range map[string]wamp.Dict{
		"another nonce": {"nonce": "AAAA", "salt": "MDEyMzQ1Njc=", "kdf": "pbkdf2", "iterations": int64(4096)},
		"no nonce":      {"nonce": nonce, "salt": "MDEyMzQ1Njc=", "kdf": "pbkdf2", "iterations": int64(4096)},
		"too much work": {"nonce": nonce + "AA", "salt": "MDEyMzQ1Njc=", "kdf": "argon2id13", "iterations": int64(1), "memory": int64(1) << 40},
		"unknown KDF":   {"nonce": nonce + "AA", "salt": "MDEyMzQ1Njc=", "kdf": "rot13", "iterations": int64(1)},
		"no salt":       {"nonce": nonce + "AA", "kdf": "pbkdf2", "iterations": int64(4096)},
	} {
		if _, err := client.Challenge(&wamp.Challenge{Extra: extra}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if client.Welcome(&wamp.Welcome{}) == nil {
		t.Error("a WELCOME without a challenge is accepted")
	}
}

// RFC 7677, section 3: the same computation, over the attributes that WAMP has.
func TestScramAuthMessage(t *testing.T) {
	got := auth.AuthMessage(auth.MethodScram, "user", "rOprNGfwEbeRWgbNEkqO",
		"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "W22ZaJ0SNY7soEsUEjb6gQ==", 4096)
	want := "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096," +
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	if got != want {
		t.Errorf("%s", got)
	}
}

func TestCertificateName(t *testing.T) {
	for name, want := range map[auth.CertificateName]bool{
		"sha256:" + auth.CertificateName(strings.Repeat("aB", 32)):       true,
		"sha256:" + auth.CertificateName(strings.Repeat("AB:", 31)+"AB"): true,
		"sha256:12": false, "subject:CN=pump": true, "subject:": false, "CN=pump": false, "": false,
	} {
		if name.Valid() != want {
			t.Errorf("%q is valid: %v", name, !want)
		}
	}
}

func FuzzStored(f *testing.F) {
	f.Add("pbkdf2$60000$MDEyMzQ1Njc4OWFiY2RlZg==$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	f.Add("argon2id13$3$64$$$")
	f.Fuzz(func(t *testing.T, text string) {
		for _, v := range []encoding.TextUnmarshaler{new(auth.TicketHash), new(auth.CRAKey), new(auth.ScramKeys)} {
			if v.UnmarshalText([]byte(text)) != nil {
				continue
			}
			b, err := v.(encoding.TextMarshaler).MarshalText()
			if err != nil || v.UnmarshalText(b) != nil {
				t.Errorf("%q does not survive: %q %v", text, b, err)
			}
		}
	})
}
