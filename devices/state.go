package devices

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxState bounds the file of a device's state.
const maxState = 64 << 10

// StateFile keeps what a device must know again after a restart, such as a
// meter's total: one small JSON file, <state_dir>/devices/<name>.json. Writing
// it is atomic: after a power failure there is the old content or the new. How
// often it is written is its user's to bound.
type StateFile struct {
	path string // "" without a state directory
}

// ErrNoState is returned when there is no directory for state.
var ErrNoState = errors.New("there is no directory for state: set state_dir in the configuration")

// StateFile returns that of the device.
func (e Env) StateFile() *StateFile {
	if e.StateDir == "" {
		return &StateFile{}
	}
	return &StateFile{path: filepath.Join(e.StateDir, "devices", e.Name+".json")}
}

// Load decodes the file into v and reports whether there is one.
func (s *StateFile) Load(v any) (bool, error) {
	if s.path == "" {
		return false, ErrNoState
	}
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the state: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err == nil && len(text) > maxState {
		err = fmt.Errorf("it is larger than %d bytes", maxState)
	}
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		return false, fmt.Errorf("read the state in %s: %w; mend the file, or remove it to begin anew", s.path, err)
	}
	return true, nil
}

// Save replaces the file by v. Its directories are made for this user only.
func (s *StateFile) Save(v any) error {
	if s.path == "" {
		return ErrNoState
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the state in %s: %w", s.path, err)
	}
	if err := replace(s.path, append(text, '\n')); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	return nil
}

// replace writes a file whole or not at all.
func replace(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*.new") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // there is none after the rename
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
