package gpio

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Open finds the line: by its name ("GPIO17"), by its place on the 40-pin
// header ("P1-11") or, when chip (a label, or a path in /dev) is given, by its
// offset on that chip ("17"). It does not touch the line.
func Open(pin, chip string, cfg LineConfig) (*Line, error) {
	name, err := canonical(pin, chip)
	if err != nil {
		return nil, err
	}
	chips, failed := Scan("/dev")
	addr, err := locate(name, chip, chips, failed)
	if err != nil {
		return nil, err
	}
	if cfg.Consumer == "" {
		cfg.Consumer = "postern"
	}
	if cfg.Buffer <= 0 {
		cfg.Buffer = defaultBuffer
	}
	return &Line{addr: addr, cfg: cfg}, nil
}

// openPair finds two lines for one request: the kernel then puts the edges of
// both into one queue, in the order in which they happened. It returns nil when
// they are on different chips, which cannot be.
func openPair(a, b, chip string, cfg LineConfig) (*Line, error) {
	first, err := Open(a, chip, cfg)
	if err != nil {
		return nil, err
	}
	second, err := Open(b, chip, cfg)
	if err != nil || second.addr.Path != first.addr.Path {
		return nil, err
	}
	first.second = &second.addr
	return first, nil
}

// Scan reads what the chips of a folder, which is /dev, tell of their lines; it
// touches no line. failed are chips that could not be read. A second node or link of the same chip,
// as older kernels' names are kept on a Raspberry Pi 5, counts once.
func Scan(dir string) (chips []Chip, failed []error) {
	paths, _ := filepath.Glob(filepath.Join(dir, "gpiochip*"))
	seen := map[string]bool{}
	for _, path := range paths {
		if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
			path = real
		}
		if seen[path] {
			continue
		}
		seen[path] = true
		c, err := scanChip(path)
		if err != nil {
			failed = append(failed, explainAccess(path, err))
			continue
		}
		chips = append(chips, c)
	}
	return chips, failed
}

func scanChip(path string) (Chip, error) {
	f, conn, err := openChip(path)
	if err != nil {
		return Chip{}, err
	}
	defer f.Close()
	var u uapiChipInfo
	if err := ioctl(conn, iocChipInfo, &u); err != nil {
		return Chip{}, err
	}
	c := Chip{Path: path, Name: unix.ByteSliceToString(u.name[:]), Label: unix.ByteSliceToString(u.label[:])}
	for i := range min(u.lines, 4096) {
		l, err := lineInfoOf(conn, i)
		if err != nil {
			return Chip{}, err
		}
		c.Lines = append(c.Lines, l)
	}
	return c, nil
}
