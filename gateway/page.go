package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"
)

// page serves the files of the web page from memory: the list of its files is
// fixed at start, so no request can name anything else.
type page struct {
	files map[string]asset // by URL path
}

type asset struct {
	name string
	body []byte
	etag string
}

func newPage(files fs.FS) (*page, error) {
	p := &page{files: map[string]asset{}}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		p.files["/"+name] = asset{name: path.Base(name), body: body, etag: `"` + hex.EncodeToString(sum[:8]) + `"`}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the page's files: %w", err)
	}
	if index, ok := p.files["/index.html"]; ok {
		p.files["/"] = index
	}
	return p, nil
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := p.files[r.URL.Path]
	if !ok {
		http.Error(w, "nothing is served at this path", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this path can only be read", http.StatusMethodNotAllowed)
		return
	}
	// The files change with the binary: they are asked for again each time,
	// and are not sent again while the tag is the same.
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", a.etag)
	http.ServeContent(w, r, a.name, time.Time{}, bytes.NewReader(a.body))
}
