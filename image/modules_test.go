package image

import (
	"archive/zip"
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// module is a small module and what go mod download says of it.
func module(t *testing.T) (Module, []byte) {
	t.Helper()
	m := Module{Path: "example.org/Kernel", Version: "v1.0.0"}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range []string{"vmlinuz", "overlays/b.dtbo", "overlays/a.dtbo", "overlays/deeper/c.dtbo"} {
		f, err := z.Create(m.Path + "@" + m.Version + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if m.Sum, err = contentSum(r); err != nil {
		t.Fatal(err)
	}
	return m, b.Bytes()
}

func TestSource(t *testing.T) {
	m, text := module(t)
	asked := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/example.org/!kernel/@v/v1.0.0.zip" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(text)
	}))
	defer proxy.Close()
	own := t.TempDir()
	s := &Source{Proxy: proxy.URL, Caches: []string{t.TempDir(), own}, Say: func(string) {}}
	for range 2 {
		a, err := s.open(context.Background(), m)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := a.read("vmlinuz"); err != nil || string(b) != "vmlinuz" {
			t.Errorf("vmlinuz is %q (%v)", b, err)
		}
		if have := a.below("overlays"); strings.Join(have, " ") != "a.dtbo b.dtbo" {
			t.Errorf("overlays are %v", have)
		}
		if _, err := a.read("nothing"); err == nil {
			t.Error("a file that is not there was read")
		}
		a.Close()
	}
	if asked != 1 {
		t.Errorf("the proxy was asked %d times", asked)
	}

	// What arrives broken is refused, and not kept.
	wrong := m
	wrong.Sum, wrong.Version = "h1:AAAA", "v1.0.0"
	s.Caches = []string{t.TempDir()}
	if _, err := s.open(context.Background(), wrong); err == nil || !strings.Contains(err.Error(), "must be h1:AAAA") {
		t.Errorf("a wrong sum: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Caches[0], "example.org", "!kernel", "@v", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// So is what somebody changed in the cache.
	path := filepath.Join(own, "example.org", "!kernel", "@v", "v1.0.0.zip")
	if err := os.WriteFile(path, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	s.Caches = []string{own}
	if _, err := s.open(context.Background(), m); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a broken archive: %v", err)
	}
	m.Version = "v2.0.0"
	if _, err := s.open(context.Background(), m); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a module that the proxy does not have: %v", err)
	}
}
