package devices

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStateFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	type total struct{ Pulses int64 }
	s := Env{Name: "meter", StateDir: dir}.StateFile()
	var v total
	if found, err := s.Load(&v); found || err != nil {
		t.Errorf("no file yet: %v, %v", found, err)
	}
	for n := range int64(3) {
		if err := s.Save(total{n}); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := s.Load(&v); !found || err != nil || v.Pulses != 2 {
		t.Errorf("%v, %v, %v", found, v, err)
	}
	path := filepath.Join(dir, "devices", "meter.json")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("%d files are left", len(files))
	}
	for _, text := range []string{"{", strings.Repeat(" ", maxState+1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(&v); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("a broken file: %v", err)
		}
	}
	none := Env{Name: "meter"}.StateFile()
	if _, err := none.Load(&v); !errors.Is(err, ErrNoState) {
		t.Errorf("%v", err)
	}
	if err := none.Save(v); !errors.Is(err, ErrNoState) {
		t.Errorf("%v", err)
	}
	s.path = filepath.Join(path, "no", "folder")
	if err := s.Save(v); err == nil {
		t.Error("written below a file")
	}
}
