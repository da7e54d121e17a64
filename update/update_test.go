package update

import (
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postern-iot/postern/image/layout"
)

// appliance checks requests as a real one does, and keeps what is pushed.
type appliance struct {
	t      *testing.T
	public ed25519.PublicKey
	pushed []byte
	did    []string
}

func (a *appliance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := strings.TrimPrefix(r.URL.Path, "/")
	if request == Status {
		_ = json.NewEncoder(w).Encode(Report{Slot: 2, Boot: 2, Nonce: "once"})
		return
	}
	signature, err := hex.DecodeString(r.Header.Get(HeaderSignature))
	digest := r.Header.Get(HeaderDigest)
	if err != nil || r.Header.Get(HeaderNonce) != "once" || !ed25519.Verify(a.public, Message(request, "once", digest), signature) {
		http.Error(w, "not signed", http.StatusForbidden)
		return
	}
	if request == Push {
		z, err := gzip.NewReader(r.Body)
		if err == nil {
			a.pushed, err = io.ReadAll(z)
		}
		if sum := sha256.Sum256(a.pushed); err != nil || hex.EncodeToString(sum[:]) != digest {
			a.t.Errorf("%d bytes arrived (%v), and are not what was signed", len(a.pushed), err)
		}
	}
	a.did = append(a.did, request)
	_ = json.NewEncoder(w).Encode(Report{Slot: 2, Boot: 3, Last: &Last{State: Trying, Build: "b"}})
}

func TestClient(t *testing.T) {
	key, err := ParsePrivateKey(strings.Repeat("01", 32) + "\n")
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParsePublicKey(hex.EncodeToString(key.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	a := &appliance{t: t, public: public}
	server := httptest.NewServer(a)
	defer server.Close()
	c := &Client{Address: strings.TrimPrefix(server.URL, "http://"), Key: key}
	ctx := context.Background()
	if r, err := c.Push(ctx, []byte("a slot")); err != nil || r.Last.Build != "b" || string(a.pushed) != "a slot" {
		t.Errorf("push: %+v, %v, %q", r, err, a.pushed)
	}
	for _, request := range []string{Commit, Rollback} {
		if _, err := c.Do(ctx, request); err != nil {
			t.Errorf("%s: %v", request, err)
		}
	}
	if strings.Join(a.did, " ") != "push commit rollback" {
		t.Errorf("did %v", a.did)
	}
	c.Key = ed25519.NewKeyFromSeed(make([]byte, 32))
	if _, err := c.Do(ctx, Commit); err == nil || !strings.Contains(err.Error(), "refuses: not signed") {
		t.Errorf("with another key: %v", err)
	}
}

func TestSlotOf(t *testing.T) {
	image := make([]byte, layout.Size)
	copy(image, layout.NewTable()[:])
	image[layout.SlotAt] = 7
	if slot, err := SlotOf(image); err != nil || len(slot) != layout.SlotSize || slot[0] != 7 {
		t.Errorf("%d bytes, %v", len(slot), err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "another image": make([]byte, 1024), "half": image[:layout.Size/2]} {
		if _, err := SlotOf(b); err == nil {
			t.Errorf("%s has a slot", name)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, text := range []string{"", "01", strings.Repeat("0", 63), strings.Repeat("x", 64)} {
		if _, err := ParsePublicKey(text); err == nil {
			t.Errorf("%q is taken as a public key", text)
		}
		if _, err := ParsePrivateKey(text); err == nil {
			t.Errorf("%q is taken as a private key", text)
		}
	}
}
