package flash

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// ChunkSize is what is written, checked and noted at a time.
const ChunkSize = 4 << 20

// maxImage bounds what is read of an image, in chunks: 4 TiB.
const maxChunks = 1 << 20

// Target is what is written: a disk, or a plain file.
type Target interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when all that was written is on the medium and will be read
	// from there.
	Sync() error
}

// Phase is what a write is at.
type Phase string

// The phases, in their order.
const (
	PhaseRead   Phase = "read"
	PhaseWrite  Phase = "write"
	PhaseVerify Phase = "verify"
)

// Report is told how far a phase is, in bytes; total is 0 where it is not known.
type Report func(phase Phase, done, total int64)

// Plan is what is known of an image after it was read once.
type Plan struct {
	Size   int64
	SHA256 [32]byte // of the whole image
	Chunk  int      // bytes
	Chunks [][32]byte
}

// Sum is the image's SHA-256 in hexadecimal.
func (p *Plan) Sum() string { return hex.EncodeToString(p.SHA256[:]) }

func (p *Plan) length(i int) int {
	return int(min(int64(p.Chunk), p.Size-int64(i)*int64(p.Chunk)))
}

// ErrInterrupted is the error of what was told to stop; writing again goes on
// where it was.
var ErrInterrupted = errors.New("interrupted")

// MismatchError is the error of a medium that has other bytes than the image.
type MismatchError struct {
	Offset int64 // of the first chunk that differs
	Chunks int   // how many do
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("what is on the disk differs from the image, in %d places, the first within %s after byte %d", e.Chunks, Bytes(ChunkSize), e.Offset)
}

// Scan reads an image to its end. So a packed image that is not complete is
// found out before anything is written.
func Scan(ctx context.Context, image io.Reader, chunk int, total int64, report Report) (*Plan, error) {
	p := &Plan{Chunk: chunk}
	whole := sha256.New()
	err := chunks(ctx, image, make([]byte, chunk), func(_ int, b []byte) error {
		if len(p.Chunks) == maxChunks {
			return fmt.Errorf("the image has more than %s", Bytes(int64(maxChunks)*int64(chunk)))
		}
		whole.Write(b)
		p.Chunks = append(p.Chunks, sha256.Sum256(b))
		p.Size += int64(len(b))
		report(PhaseRead, p.Size, total)
		return nil
	})
	if err == nil && p.Size == 0 {
		err = errors.New("the image is empty")
	}
	whole.Sum(p.SHA256[:0])
	return p, err
}

// chunks calls each with every chunk of an image, the last of which may be
// shorter.
func chunks(ctx context.Context, image io.Reader, buffer []byte, each func(i int, b []byte) error) error {
	for i := 0; ; i++ {
		if ctx.Err() != nil {
			return ErrInterrupted
		}
		n, err := io.ReadFull(image, buffer)
		if n > 0 {
			if err := each(i, buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// Result is what a write has done.
type Result struct {
	Written, Reused int64 // bytes; those reused were there from before
}

// syncEvery is how many chunks are written between two notes in the journal.
const syncEvery = 16

// Write brings an image onto a target: first zeros where it begins, then
// everything but the first chunk, which it reads back, then the first chunk. What
// the journal says was written before is read, and written again only if it is
// something else. An error leaves the journal for the next time.
func Write(ctx context.Context, target Target, plan *Plan, image io.Reader, journal *Journal, report Report) (Result, error) {
	w := &writer{ctx: ctx, target: target, plan: plan, journal: journal, report: report, check: aligned(plan.Chunk)}
	err := w.run(image)
	if err != nil {
		return w.result, err
	}
	return w.result, journal.Remove()
}

type writer struct {
	ctx     context.Context
	target  Target
	plan    *Plan
	journal *Journal
	report  Report
	result  Result
	check   []byte // what is read back
	first   []byte
	pending []int
	done    int64
}

func (w *writer) run(image io.Reader) error {
	if _, err := w.target.WriteAt(aligned(w.plan.length(0)), 0); err != nil {
		return fmt.Errorf("clear the beginning: %w", err)
	}
	if err := w.target.Sync(); err != nil {
		return fmt.Errorf("clear the beginning: %w", err)
	}
	seen := 0
	err := chunks(w.ctx, image, aligned(w.plan.Chunk), func(i int, b []byte) error {
		seen = i + 1
		if i >= len(w.plan.Chunks) || sha256.Sum256(b) != w.plan.Chunks[i] {
			return errors.New("the image has changed while it was written")
		}
		return w.chunk(i, b)
	})
	// Also of an interrupted write: what is written is noted.
	if sync := w.note(); err == nil {
		err = sync
	}
	if err == nil && seen != len(w.plan.Chunks) {
		err = errors.New("the image has changed while it was written")
	}
	if err != nil {
		return err
	}
	if err := w.verify(); err != nil {
		return err
	}
	return w.begin()
}

func (w *writer) chunk(i int, b []byte) error {
	at := int64(i) * int64(w.plan.Chunk)
	defer func() {
		w.done += int64(len(b))
		w.report(PhaseWrite, w.done, w.plan.Size)
	}()
	if i == 0 {
		w.first = append(aligned(len(b))[:0], b...)
		return nil
	}
	if w.journal.Has(i) {
		if n, err := w.target.ReadAt(w.check[:len(b)], at); n == len(b) && (err == nil || err == io.EOF) && sha256.Sum256(w.check[:n]) == w.plan.Chunks[i] {
			w.result.Reused += int64(n)
			return nil
		}
	}
	if _, err := w.target.WriteAt(b, at); err != nil {
		return fmt.Errorf("write at byte %d: %w", at, err)
	}
	w.result.Written += int64(len(b))
	w.pending = append(w.pending, i)
	if len(w.pending) < syncEvery {
		return nil
	}
	return w.note()
}

// note has what was written reach the medium, and the journal after it.
func (w *writer) note() error {
	if err := w.target.Sync(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	err := w.journal.Add(w.pending, w.plan)
	w.pending = w.pending[:0]
	return err
}

// verify reads everything back but the first chunk.
func (w *writer) verify() error {
	bad, err := differing(w.ctx, w.target, w.plan, 1, w.check, w.report)
	if err != nil || len(bad) == 0 {
		return err
	}
	if err := w.journal.Forget(bad, w.plan); err != nil {
		return err
	}
	return fmt.Errorf("%w; the card is worn out, or has less memory than it says", &MismatchError{Offset: int64(bad[0]) * int64(w.plan.Chunk), Chunks: len(bad)})
}

// begin writes the first chunk, with which the card boots.
func (w *writer) begin() error {
	if _, err := w.target.WriteAt(w.first, 0); err != nil {
		return fmt.Errorf("write the first block: %w", err)
	}
	w.result.Written += int64(len(w.first))
	if err := w.target.Sync(); err != nil {
		return fmt.Errorf("write the first block: %w", err)
	}
	if n, err := w.target.ReadAt(w.check[:len(w.first)], 0); n != len(w.first) || sha256.Sum256(w.check[:n]) != w.plan.Chunks[0] {
		if err != nil && err != io.EOF {
			return fmt.Errorf("read the first block back: %w", err)
		}
		return &MismatchError{Chunks: 1}
	}
	return nil
}

// Verify compares a target with an image.
func Verify(ctx context.Context, target io.ReaderAt, plan *Plan, report Report) error {
	bad, err := differing(ctx, target, plan, 0, aligned(plan.Chunk), report)
	if err == nil && len(bad) > 0 {
		err = &MismatchError{Offset: int64(bad[0]) * int64(plan.Chunk), Chunks: len(bad)}
	}
	return err
}

// differing are the chunks from one on that the target has otherwise. What
// cannot be read differs.
func differing(ctx context.Context, target io.ReaderAt, plan *Plan, from int, buffer []byte, report Report) (bad []int, err error) {
	for i := from; i < len(plan.Chunks); i++ {
		if ctx.Err() != nil {
			return nil, ErrInterrupted
		}
		at, n := int64(i)*int64(plan.Chunk), plan.length(i)
		if m, err := target.ReadAt(buffer[:n], at); m != n || err != nil && err != io.EOF || sha256.Sum256(buffer[:n]) != plan.Chunks[i] {
			bad = append(bad, i)
		}
		report(PhaseVerify, at+int64(n), plan.Size)
	}
	return bad, nil
}
