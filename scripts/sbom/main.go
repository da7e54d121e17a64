// Command sbom says what a binary of ours is made of: as a bill of materials in
// CycloneDX 1.5 (https://cyclonedx.org/docs/1.5/json/), or as the texts of its
// modules' licences. It reads what Go has put into the binary, and for the
// licences the module cache; it writes to standard output, the same for the
// same binary.
package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
)

func main() {
	version := flag.String("version", "unreleased", "version of the binary")
	licenses := flag.Bool("licenses", false, "print the texts of the licences")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: sbom [-version V | -licenses] BINARY")
		os.Exit(2)
	}
	if err := run(os.Stdout, flag.Arg(0), *version, *licenses); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, binary, version string, licenses bool) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read what %s is built of: %w", binary, err)
	}
	var out []byte
	if licenses {
		out, err = licenseTexts(info)
	} else {
		out, err = json.MarshalIndent(bill(info, version), "", "  ")
		out = append(out, '\n')
	}
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type document struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// bill is the bill of materials: the binary, the modules in it, and Go's
// standard library.
func bill(info *buildinfo.BuildInfo, version string) document {
	main := module("application", info.Main.Path, version, "")
	for _, s := range info.Settings {
		main.Properties = append(main.Properties, property{"go:build:" + s.Key, s.Value})
	}
	doc := document{Format: "CycloneDX", Spec: "1.5", Version: 1, Metadata: metadata{main}}
	add := func(c component) {
		doc.Components = append(doc.Components, c)
	}
	add(module("library", "std", strings.TrimPrefix(info.GoVersion, "go"), ""))
	for _, m := range info.Deps {
		m = replaced(m)
		add(module("library", m.Path, m.Version, m.Sum))
	}
	// Which module needs which is not in the binary: all are the binary's.
	all := dependency{Ref: main.Ref}
	for _, c := range doc.Components {
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	doc.Dependencies = []dependency{all}
	return doc
}

// module is a Go module; sum is its hash as go.sum has it: SHA-256 of a list of
// the SHA-256 of its files.
func module(kind, path, version, sum string) component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	c := component{Type: kind, Ref: purl, Name: path, Version: version, PURL: purl}
	if h, ok := strings.CutPrefix(sum, "h1:"); ok {
		if b, err := base64.StdEncoding.DecodeString(h); err == nil {
			c.Hashes = []hash{{"SHA-256", hex.EncodeToString(b)}}
		}
	}
	return c
}

func replaced(m *debug.Module) *debug.Module {
	if m.Replace != nil {
		return m.Replace
	}
	return m
}

// licenseTexts are the licences of the modules and of Go, one after the other.
// A module without one is an error: it could not be handed on.
func licenseTexts(info *buildinfo.BuildInfo) ([]byte, error) {
	goroot, err := goTool("env", "GOROOT")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	write := func(name, dir string) error {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			return err
		}
		found := false
		for _, f := range files {
			switch base := strings.ToUpper(filepath.Base(f)); {
			case strings.HasPrefix(base, "LICENSE"), strings.HasPrefix(base, "LICENCE"), strings.HasPrefix(base, "COPYING"), strings.HasPrefix(base, "NOTICE"):
			default:
				continue
			}
			text, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			found = true
			fmt.Fprintf(&out, "==== %s: %s\n\n%s\n\n", name, filepath.Base(f), bytes.TrimSpace(text))
		}
		if !found {
			return fmt.Errorf("%s has no licence in %s", name, dir)
		}
		return nil
	}
	problems := []error{goLicense(write, goroot)}
	for _, m := range info.Deps {
		m = replaced(m)
		dir, err := goTool("list", "-m", "-f", "{{.Dir}}", m.Path)
		if err == nil {
			err = write(m.Path+" "+m.Version, dir)
		}
		problems = append(problems, err)
	}
	return out.Bytes(), errors.Join(problems...)
}

// goLicense writes Go's own licence. Distributions keep it elsewhere than in
// GOROOT, so Go's module golang.org/x/sys stands in, which has the same.
func goLicense(write func(name, dir string) error, goroot string) error {
	if write("Go", goroot) == nil {
		return nil
	}
	dir, err := goTool("list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys")
	if err != nil {
		return err
	}
	return write("Go", dir)
}

func goTool(args ...string) (string, error) {
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
