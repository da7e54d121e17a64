//go:build linux

package appliance

import (
	"bufio"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/image/layout"
	"github.com/postern-iot/postern/update"
)

// updates takes requests over HTTP, as package update says. It also does so
// while the gateway does not run.
type updates struct {
	m   *machine
	key ed25519.PublicKey

	mu     sync.Mutex
	nonces []string // given out, the oldest first
	busy   bool
}

// maxNonces bounds the numbers given out; who asks for more makes the oldest
// void.
const maxNonces = 16

// tryboot is what the firmware is told to start the other slot once.
const tryboot = "0 tryboot"

// serveUpdates takes updates for as long as the machine runs, when the settings
// say where.
func (m *machine) serveUpdates() {
	if m.settings.Update == "" {
		return
	}
	text, err := os.ReadFile(filepath.Join(dataDir, layout.UpdateKey))
	if err != nil {
		m.logf("no updates: %v", err)
		return
	}
	key, err := update.ParsePublicKey(string(text))
	if err != nil {
		m.logf("no updates: %s: %v", layout.UpdateKey, err)
		return
	}
	u := &updates{m: m, key: key}
	server := &http.Server{
		Addr: m.settings.Update, Handler: u, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Minute, WriteTimeout: 16 * time.Minute,
		MaxHeaderBytes: 8 << 10, ErrorLog: nil,
	}
	server.SetKeepAlivesEnabled(false)
	m.logf("updates are taken at %s", m.settings.Update)
	m.logf("updates end: %v", server.ListenAndServe())
}

// refusal is an error that the client is told.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func (u *updates) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := strings.TrimPrefix(r.URL.Path, "/")
	var then string // how to restart after the answer
	restart := false
	err := error(&refusal{http.StatusNotFound, "there is no such request"})
	switch {
	case request == update.Status && r.Method == http.MethodGet:
		err = nil
	case r.Method != http.MethodPost:
	case request == update.Push || request == update.Commit || request == update.Rollback:
		if err = u.verify(request, r); err == nil {
			then, restart, err = u.do(request, r)
		}
	}
	if err != nil {
		status := http.StatusInternalServerError
		var refused *refusal
		if errors.As(err, &refused) {
			status = refused.status
		}
		if request != update.Status {
			u.m.logf("update: %s from %s: %v", request, r.RemoteAddr, err)
		}
		http.Error(w, err.Error(), status)
		return
	}
	report, err := u.report()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(report)
	if restart {
		_ = http.NewResponseController(w).Flush()
		u.m.order(then)
	}
}

// report is the answer to every request that is not refused.
func (u *updates) report() (*update.Report, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	boot, err := u.m.card.bootSlot()
	if err != nil {
		return nil, err
	}
	nonce := rand.Text()
	u.nonces = append(u.nonces, nonce)
	if len(u.nonces) > maxNonces {
		u.nonces = u.nonces[1:]
	}
	healthy, _ := u.m.trial.isHealthy()
	up, _ := strconv.ParseFloat(uptime(), 64)
	return &update.Report{Release: u.m.release, Slot: u.m.slot, Boot: boot, Healthy: healthy, Uptime: up, Last: last(), Nonce: nonce}, nil
}

// verify checks who signs, over a number that is given out and not used yet.
func (u *updates) verify(request string, r *http.Request) error {
	nonce, digest := r.Header.Get(update.HeaderNonce), r.Header.Get(update.HeaderDigest)
	signature, err := hex.DecodeString(r.Header.Get(update.HeaderSignature))
	if err != nil || !ed25519.Verify(u.key, update.Message(request, nonce, digest), signature) {
		return &refusal{http.StatusForbidden, "the request is not signed with the key of this appliance"}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, have := range u.nonces {
		if have == nonce {
			u.nonces = append(u.nonces[:i], u.nonces[i+1:]...)
			return nil
		}
	}
	return &refusal{http.StatusForbidden, "the request is signed for another time; ask again"}
}

// do does a request, one at a time.
func (u *updates) do(request string, r *http.Request) (then string, restart bool, err error) {
	u.mu.Lock()
	if u.busy {
		u.mu.Unlock()
		return "", false, &refusal{http.StatusConflict, "another request is being done"}
	}
	u.busy = true
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		u.busy = false
		u.mu.Unlock()
	}()
	_, trying := u.m.trial.isHealthy()
	switch request {
	case update.Commit:
		if !trying {
			return "", false, &refusal{http.StatusConflict, "nothing is tried: the slot that runs is the one that boots"}
		}
		return "", false, u.m.trial.commit()
	case update.Rollback:
		if trying { // the slot of before boots anyway
			return "", true, note(update.Last{State: update.Trying, Build: u.m.release.Build, Reason: "it was rolled back"})
		}
		other := layout.Other(u.m.slot)
		if l := last(); l != nil && l.State == update.Returned {
			return "", false, &refusal{http.StatusConflict, "the other slot holds an update that failed"}
		}
		if _, err := u.m.card.releaseOf(other); err != nil {
			return "", false, &refusal{http.StatusConflict, "the other slot holds nothing to return to"}
		}
		return "", true, u.m.card.setBootSlot(other)
	}
	if trying {
		return "", false, &refusal{http.StatusConflict, "an update is being tried; commit it or roll it back first"}
	}
	build, err := u.take(r)
	if err != nil {
		return "", false, err
	}
	return tryboot, true, note(update.Last{State: update.Trying, Build: build})
}

// take writes a slot that is pushed, and returns its build.
func (u *updates) take(r *http.Request) (string, error) {
	card, other := u.m.card, layout.Other(u.m.slot)
	if u.m.slot == 0 || !card.hasSlots() {
		return "", &refusal{http.StatusConflict, "this card has no room for a second slot"}
	}
	u.m.logf("update: slot %d is written", other)
	// Until it is whole, nobody returns to that slot.
	if err := note(update.Last{State: update.Returned, Build: "unknown", Reason: "it was refused, or did not arrive whole"}); err != nil {
		return "", err
	}
	packed, err := gzip.NewReader(bufio.NewReaderSize(http.MaxBytesReader(nil, r.Body, 2*layout.SlotSize), 64<<10))
	if err != nil {
		return "", &refusal{http.StatusBadRequest, "what is sent is not packed: " + err.Error()}
	}
	device := card.device(other)
	sum, err := fill(device, packed)
	if err != nil {
		return "", err
	}
	if have := hex.EncodeToString(sum.Sum(nil)); have != r.Header.Get(update.HeaderDigest) {
		return "", &refusal{http.StatusBadRequest, "what arrived is not what was signed"}
	}
	if err := readBack(device, sum); err != nil {
		return "", err
	}
	release, err := card.releaseOf(other)
	if err != nil {
		return "", &refusal{http.StatusBadRequest, fmt.Sprintf("what was signed is no slot: %v", err)}
	}
	if release.Board != u.m.release.Board {
		return "", &refusal{http.StatusBadRequest, fmt.Sprintf("it is for the board %q, and this is %q", release.Board, u.m.release.Board)}
	}
	if err := card.withPartition(other, func(dir string) error { return renumber(dir, other) }); err != nil {
		return "", err
	}
	u.m.logf("update: version %s, build %s is tried", release.Version, release.Build)
	return release.Build, nil
}

// fill writes a whole slot and returns the sum of what was written.
func fill(device string, from io.Reader) (hash.Hash, error) {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(f, sum), io.LimitReader(from, layout.SlotSize+1), make([]byte, 1<<20))
	switch {
	case err != nil:
		return nil, fmt.Errorf("after %d bytes: %w", n, err)
	case n != layout.SlotSize:
		return nil, &refusal{http.StatusBadRequest, fmt.Sprintf("a slot has %d bytes, and this has %d or more", layout.SlotSize, n)}
	}
	return sum, f.Sync()
}

// readBack compares what the card has with what was written to it: not with
// what the kernel remembers, which is told to forget first.
func readBack(device string, want hash.Hash) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, io.LimitReader(f, layout.SlotSize), make([]byte, 1<<20)); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if string(sum.Sum(nil)) != string(want.Sum(nil)) {
		return errors.New("the card has not kept what was written to it: it is broken")
	}
	return nil
}

// releaseOf reads what a slot holds.
func (c *card) releaseOf(slot int) (*layout.Release, error) {
	release := &layout.Release{}
	err := c.withPartition(slot, func(dir string) error {
		text, err := os.ReadFile(filepath.Join(dir, "release.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(text, release)
	})
	return release, err
}
