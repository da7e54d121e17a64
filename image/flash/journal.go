package flash

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Journal is a file that says which chunks of an image are on a target: a line
// for the image and the target, then a line "index sha256" for each chunk. It is
// only believed after the chunk was read. A nil Journal keeps nothing.
type Journal struct {
	path string
	head string
	done map[int]bool
}

// JournalPath is where the journal for a target is kept, in the user's cache.
func JournalPath(target string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the journal: %w", err)
	}
	name := sha256.Sum256([]byte(target))
	return filepath.Join(cache, "postern", "flash", hex.EncodeToString(name[:8])), nil
}

// OpenJournal reads a journal. One of another image or target counts as none.
func OpenJournal(path, target string, plan *Plan) (*Journal, error) {
	j := &Journal{path: path, done: map[int]bool{}}
	j.head = fmt.Sprintf("postern-flash 1 %s %d %d %q", plan.Sum(), plan.Size, plan.Chunk, target)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	defer f.Close()
	// A line has less than 100 bytes, and a chunk seldom more than one line.
	lines := bufio.NewScanner(io.LimitReader(f, 4096+400*int64(len(plan.Chunks))))
	if !lines.Scan() || lines.Text() != j.head {
		return j, nil
	}
	for lines.Scan() {
		// The last line may be torn: it fits no chunk then.
		var i int
		var sum string
		if _, err := fmt.Sscanf(lines.Text(), "%d %64s", &i, &sum); err == nil && i > 0 && i < len(plan.Chunks) && sum == hex.EncodeToString(plan.Chunks[i][:]) {
			j.done[i] = true
		}
	}
	return j, nil
}

// Has says whether a chunk is noted.
func (j *Journal) Has(i int) bool { return j != nil && j.done[i] }

// Len is how many chunks are noted.
func (j *Journal) Len() int {
	if j == nil {
		return 0
	}
	return len(j.done)
}

// Add notes chunks.
func (j *Journal) Add(chunks []int, plan *Plan) error {
	if j == nil || len(chunks) == 0 {
		return nil
	}
	if len(j.done) == 0 {
		return j.rewrite(chunks, plan)
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	_, err = f.WriteString(j.lines(chunks, plan))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// lines notes chunks and gives their lines.
func (j *Journal) lines(chunks []int, plan *Plan) string {
	var b strings.Builder
	for _, i := range chunks {
		j.done[i] = true
		fmt.Fprintf(&b, "%d %x\n", i, plan.Chunks[i])
	}
	return b.String()
}

func (j *Journal) rewrite(chunks []int, plan *Plan) error {
	err := os.MkdirAll(filepath.Dir(j.path), 0o700)
	if err == nil {
		err = os.WriteFile(j.path, []byte(j.head+"\n"+j.lines(chunks, plan)), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// Forget takes back chunks that turned out to be others.
func (j *Journal) Forget(chunks []int, plan *Plan) error {
	if j == nil {
		return nil
	}
	for _, i := range chunks {
		delete(j.done, i)
	}
	var left []int
	for i := range plan.Chunks {
		if j.done[i] {
			left = append(left, i)
		}
	}
	return j.rewrite(left, plan)
}

// Remove removes the file: the write is complete.
func (j *Journal) Remove() error {
	if j == nil {
		return nil
	}
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the journal: %w", err)
	}
	return nil
}
