// Package update is how an appliance is told to replace itself: the requests,
// who signs them and with what, and the client that sends them.
//
// An appliance takes requests over HTTP. Each is signed with the Ed25519 key
// whose public half is on its card, over a number that the appliance has given
// out before and takes once: a request that was overheard is of no use again.
// What is sent is public, so it is not encrypted. The package has no goroutines
// and no state.
package update

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/postern-iot/postern/image/layout"
)

// Port is where appliances take updates unless told otherwise.
const Port = "8022"

// The requests. Status is asked for with GET and needs no signature.
const (
	Status   = "status"
	Push     = "push"
	Commit   = "commit"
	Rollback = "rollback"
)

// The headers of a request that is signed.
const (
	HeaderNonce     = "Postern-Nonce"
	HeaderDigest    = "Postern-Digest"
	HeaderSignature = "Postern-Signature"
)

// The states of the last update.
const (
	Trying    = "trying"
	Committed = "committed"
	Returned  = "returned"
)

// Report is what an appliance says of itself.
type Report struct {
	Release layout.Release `json:"release"`
	// Slot runs, Boot starts next.
	Slot int `json:"slot"`
	Boot int `json:"boot"`
	// Healthy says that the gateway serves and the network is there.
	Healthy bool `json:"healthy"`
	// Uptime is in seconds.
	Uptime float64 `json:"uptime_s"`
	// Last is the last update, nil when there was none.
	Last *Last `json:"last,omitempty"`
	// Nonce is to be signed with the next request.
	Nonce string `json:"nonce,omitempty"`
}

// Last says what became of an update.
type Last struct {
	State  string `json:"state"`
	Build  string `json:"build"`
	Reason string `json:"reason,omitempty"`
}

// Message is what is signed: the request, the number, and the digest of what is
// pushed, as hexadecimal SHA-256 of the slot; empty for other requests.
func Message(request, nonce, digest string) []byte {
	return []byte("postern update\n" + request + "\n" + nonce + "\n" + digest + "\n")
}

// ParsePublicKey reads a public key in hexadecimal, as postern keys cryptosign
// prints it.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, errors.New("it is no public key: 64 hexadecimal digits, as 'postern keys cryptosign' prints them")
	}
	return b, nil
}

// ParsePrivateKey reads a private key in hexadecimal, as postern keys
// cryptosign writes it.
func ParsePrivateKey(text string) (ed25519.PrivateKey, error) {
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != ed25519.SeedSize {
		return nil, errors.New("it is no private key: 64 hexadecimal digits, as 'postern keys cryptosign' writes them")
	}
	return ed25519.NewKeyFromSeed(b), nil
}

// SlotOf takes the slot out of an image.
func SlotOf(image []byte) ([]byte, error) {
	var table layout.Table
	if copy(table[:], image) != len(table) || !table.Ours() {
		return nil, errors.New("it is no appliance's image; 'postern image build' makes one")
	}
	at, size := table.Partition(layout.SlotA)
	if size != layout.SlotSize || at+size > int64(len(image)) {
		return nil, errors.New("it is cut short")
	}
	return image[at : at+size], nil
}

// Client speaks to an appliance.
type Client struct {
	Address string // host:port
	Key     ed25519.PrivateKey
}

// maxAnswer bounds what an appliance may answer.
const maxAnswer = 64 << 10

// Report asks the appliance about itself.
func (c *Client) Report(ctx context.Context) (*Report, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Address+"/"+Status, nil)
	if err != nil {
		return nil, err
	}
	return c.send(req)
}

// Push sends a slot, which the appliance tries at once.
func (c *Client) Push(ctx context.Context, slot []byte) (*Report, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(slot); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(slot)
	return c.signed(ctx, Push, hex.EncodeToString(sum[:]), packed.Bytes())
}

// Do sends Commit or Rollback.
func (c *Client) Do(ctx context.Context, request string) (*Report, error) {
	return c.signed(ctx, request, "", nil)
}

func (c *Client) signed(ctx context.Context, request, digest string, body []byte) (*Report, error) {
	report, err := c.Report(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.Address+"/"+request, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set(HeaderNonce, report.Nonce)
	req.Header.Set(HeaderDigest, digest)
	req.Header.Set(HeaderSignature, hex.EncodeToString(ed25519.Sign(c.Key, Message(request, report.Nonce, digest))))
	return c.send(req)
}

func (c *Client) send(req *http.Request) (*Report, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 15 * time.Minute}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the appliance at %s: %w", c.Address, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("the appliance at %s: %w", c.Address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the appliance at %s refuses: %s", c.Address, strings.TrimSpace(string(text)))
	}
	report := &Report{}
	if err := json.Unmarshal(text, report); err != nil {
		return nil, fmt.Errorf("what answers at %s is no appliance: %w", c.Address, err)
	}
	return report, nil
}
