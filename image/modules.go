package image

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Module is a Go module that carries files instead of code.
type Module struct {
	Path, Version string
	// Sum is what go.sum would say of it: h1 of its content.
	Sum string
}

// The modules that images are made of. The kernels are Linux 6.12 with the
// Raspberry Pi's patches, and 7.1.
var (
	kernelRPi   = Module{"github.com/gokrazy/kernel.rpi", "v0.0.0-20251127164438-9778ec0261de", "h1:RSLWj1Ska9s4cl+n/bC5LY4s8vLr+tZoO2vMm/wGP64="}
	kernelARM64 = Module{"github.com/gokrazy/kernel.arm64", "v0.0.0-20260705071517-37841c4d6ff1", "h1:MYq3OcTlEz46i/DZxG3c6ePjE6Te/024cPW2VHTBVAs="}
	firmware    = Module{"github.com/gokrazy/firmware", "v0.0.0-20260522070551-527ce0ed43cf", "h1:WRmvIwhtcWJfHnrfpfXWPh3Xq6Lztn0y5l3li+NjaYw="}
)

// Modules are all modules that some image is made of.
func Modules() []Module { return []Module{kernelRPi, kernelARM64, firmware} }

// maxModule bounds a module's archive, and its content; Go's own limit is the
// same.
const maxModule = 500 << 20

// Source is where modules come from.
type Source struct {
	// Proxy is the Go module proxy's URL.
	Proxy string
	// Caches are folders laid out like $GOMODCACHE/cache/download. They are
	// looked into in order; what is fetched is put into the last.
	Caches []string
	// Say is told what takes long.
	Say func(string)
}

// DefaultSource is the Go command's cache and proxy, with a cache of our own
// behind its cache.
func DefaultSource(say func(string)) (*Source, error) {
	s := &Source{Proxy: "https://proxy.golang.org", Say: say}
	for _, p := range strings.FieldsFunc(os.Getenv("GOPROXY"), func(r rune) bool { return r == ',' || r == '|' }) {
		if strings.HasPrefix(p, "http") {
			s.Proxy = strings.TrimSuffix(p, "/")
			break
		}
	}
	if dir := os.Getenv("GOMODCACHE"); dir != "" {
		s.Caches = append(s.Caches, filepath.Join(dir, "cache", "download"))
	} else if home, err := os.UserHomeDir(); err == nil {
		s.Caches = append(s.Caches, filepath.Join(home, "go", "pkg", "mod", "cache", "download"))
	}
	own, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("where to keep the kernel: %w", err)
	}
	s.Caches = append(s.Caches, filepath.Join(own, "postern", "modules"))
	return s, nil
}

// place is where the proxy, and a cache, have a module's archive: capitals are
// written with an exclamation mark, as in the reference of Go modules.
func (m Module) place() string {
	var b strings.Builder
	for _, r := range m.Path {
		if unicode.IsUpper(r) {
			b.WriteByte('!')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String() + "/@v/" + m.Version + ".zip"
}

// open returns a module's archive, fetched if need be, its content as the sum
// says.
func (s *Source) open(ctx context.Context, m Module) (*archive, error) {
	for _, dir := range s.Caches {
		a, err := openArchive(filepath.Join(dir, filepath.FromSlash(m.place())), m)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return a, err
		}
	}
	path := filepath.Join(s.Caches[len(s.Caches)-1], filepath.FromSlash(m.place()))
	if err := s.fetch(ctx, m, path); err != nil {
		return nil, fmt.Errorf("fetch %s: %w", m.Path, err)
	}
	return openArchive(path, m)
}

// fetch gets a module from the proxy.
func (s *Source) fetch(ctx context.Context, m Module, path string) error {
	s.Say("fetching " + m.Path + " from " + s.Proxy)
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Proxy+"/"+m.place(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "fetch-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	n, err := io.Copy(f, io.LimitReader(resp.Body, maxModule+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if n > maxModule {
		return fmt.Errorf("it is larger than %d MB", maxModule>>20)
	}
	// Checked before it has its name: a wrong archive must not stay.
	a, err := openArchive(f.Name(), m)
	if err != nil {
		return err
	}
	a.Close()
	return os.Rename(f.Name(), path)
}

// archive is a module's archive.
type archive struct {
	*zip.ReadCloser
	prefix string
}

func openArchive(path string, m Module) (*archive, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	sum, err := contentSum(&z.Reader)
	if err == nil && sum != m.Sum {
		err = fmt.Errorf("its content is %s, and must be %s: somebody changed it, or it arrived broken; delete the file", sum, m.Sum)
	}
	if err != nil {
		z.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &archive{z, m.Path + "@" + m.Version + "/"}, nil
}

// contentSum is what go.sum calls h1: SHA-256 of the list of the files'
// SHA-256s and names, sorted by name.
func contentSum(z *zip.Reader) (string, error) {
	files := slices.Clone(z.File)
	slices.SortFunc(files, func(a, b *zip.File) int { return strings.Compare(a.Name, b.Name) })
	list, total := sha256.New(), int64(0)
	for _, f := range files {
		r, err := f.Open()
		if err != nil {
			return "", err
		}
		sum := sha256.New()
		n, err := io.Copy(sum, io.LimitReader(r, maxModule+1))
		if err := errors.Join(err, r.Close()); err != nil {
			return "", err
		}
		if total += n; total > maxModule {
			return "", fmt.Errorf("its content is larger than %d MB", maxModule>>20)
		}
		fmt.Fprintf(list, "%x  %s\n", sum.Sum(nil), f.Name)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(list.Sum(nil)), nil
}

// read returns one of the module's files.
func (a *archive) read(name string) ([]byte, error) {
	f, err := a.Open(a.prefix + name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxModule))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// below lists the module's files in a folder.
func (a *archive) below(dir string) []string {
	var names []string
	for _, f := range a.File {
		if name, ok := strings.CutPrefix(f.Name, a.prefix+dir+"/"); ok && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
