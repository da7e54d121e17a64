package flash

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// formats are those that images come in. xz and zstd are unpacked by their own
// programs, which are quicker than any of Go's, and need no place in ours.
var formats = []struct {
	magic, name, program, debian string
}{
	{"\x1f\x8b", "gzip", "", ""},
	{"\xfd7zXZ\x00", "xz", "xz", "xz-utils"},
	{"\x28\xb5\x2f\xfd", "zstd", "zstd", "zstd"},
	{"PK\x03\x04", "zip", "funzip", "unzip"},
}

// Open reads an image, unpacked if its first bytes say that it is packed.
func Open(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	r, err := unpacked(f, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

func unpacked(f *os.File, path string) (io.ReadCloser, error) {
	head := make([]byte, 8)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read the image %s: %w", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	for _, format := range formats {
		if !bytes.HasPrefix(head[:n], []byte(format.magic)) {
			continue
		}
		if format.program == "" {
			z, err := gzip.NewReader(f)
			if err != nil {
				return nil, fmt.Errorf("unpack %s: %w", path, err)
			}
			return &unpacker{Reader: z, path: path, end: f.Close}, nil
		}
		program, err := exec.LookPath(format.program)
		if err != nil {
			return nil, fmt.Errorf("unpack %s: it needs the program %s, which is not here; on Debian: sudo apt install %s", path, format.program, format.debian)
		}
		return startUnpacker(f, path, program)
	}
	return f, nil
}

// unpacker reads what comes out; its error names the file.
type unpacker struct {
	io.Reader
	path string
	end  func() error
}

func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("unpack %s: %w; is it complete?", u.path, err)
	}
	return n, err
}

func (u *unpacker) Close() error { return u.end() }

// process is a program that unpacks. Its end is an error at the end of what it
// has written, when it has failed.
type process struct {
	cmd    *exec.Cmd
	out    io.ReadCloser
	said   *bytes.Buffer
	f      *os.File
	waited bool
}

func startUnpacker(f *os.File, path, program string) (io.ReadCloser, error) {
	p := &process{said: &bytes.Buffer{}, f: f}
	p.cmd = exec.Command(program, "-dc")
	if strings.HasSuffix(program, "funzip") {
		p.cmd = exec.Command(program)
	}
	p.cmd.Stdin, p.cmd.Stderr = f, p.said
	var err error
	if p.out, err = p.cmd.StdoutPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", path, err)
	}
	return &unpacker{Reader: p, path: path, end: p.Close}, nil
}

func (p *process) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	if err == io.EOF && !p.waited {
		p.waited = true
		if wait := p.cmd.Wait(); wait != nil {
			return n, fmt.Errorf("%w: %s", wait, bytes.TrimSpace(p.said.Bytes()))
		}
	}
	return n, err
}

func (p *process) Close() error {
	if !p.waited {
		p.waited = true
		// It is in the midst of writing and has to be told.
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
	return p.f.Close()
}
