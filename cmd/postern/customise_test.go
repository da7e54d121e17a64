package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// raspiosImage makes an image like that of Raspberry Pi OS, packed.
func raspiosImage(t *testing.T, dir string) {
	t.Helper()
	const start, size = 4 << 20, 34 << 20
	mbr := make([]byte, 512)
	mbr[446+4] = 0x0c
	binary.LittleEndian.PutUint32(mbr[446+8:], start/512)
	binary.LittleEndian.PutUint32(mbr[446+12:], size/512)
	mbr[510], mbr[511] = 0x55, 0xAA
	path := filepath.Join(dir, "raspios.img")
	if err := errors.Join(os.WriteFile(path, mbr, 0o600), os.Truncate(path, start+size)); err != nil {
		t.Fatal(err)
	}
	program(t, "mkfs.vfat", "-F", "32", "-s", "1", "--offset", fmt.Sprint(start/512), path, fmt.Sprint(size>>10))
	for name, text := range map[string]string{
		"issue.txt":   "Raspberry Pi reference 2025-12-04\n",
		"cmdline.txt": "console=serial0,115200 console=tty1 root=PARTUUID=8f3ba2d3-02 rootwait\n",
		"config.txt":  "dtparam=audio=on\n",
		"user-data":   "#cloud-config\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		program(t, "mcopy", "-i", fmt.Sprintf("%s@@%d", path, start), filepath.Join(dir, name), "::"+name)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(path + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(z, in)
	if err := errors.Join(err, z.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
}

func program(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func TestImageCustomise(t *testing.T) {
	dir := t.TempDir()
	raspiosImage(t, dir)
	for name, text := range map[string]string{
		"p.deb":       "!<arch>\n",
		"site.yaml":   "mqtt: {enabled: false}\n",
		"broken.yaml": "mqtt: {enable: false}\n",
		"users.json":  "{}\n",
		"id.pub":      "# mine\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJb1oQ0fRr2hOaSCHGhTPqCDQ0zBOlvq9X9r0Hb2kQpV ada\n",
		"password":    "correct horse\n",
		"empty":       "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const image = "image customise --image raspios.img.gz -o new.img "
	for _, s := range []step{
		{"image customise", 2, "", "--image and --output are needed"},
		{image + "--config broken.yaml --deb p.deb", 2, "", "broken.yaml:1:8"},
		{image + "--config site.yaml", 2, "", "whose package is missing"},
		{image + "--user ada", 2, "", "nobody can log in"},
		{image + "--wifi Garden --country DE --wifi-password-file empty", 2, "", "no first line"},
		{image + "--wifi-password-file password", 2, "", "needs --wifi"},
		{image + "--format firstrun", 1, "", "there are systemd"},
		{"image customise --image site.yaml -o new.img", 1, "", "read the partition table"},
		{"image customise --image missing -o new.img", 2, "", "no such file"},
		{image + "--deb p.deb --config site.yaml --file users.json --hostname gate --user ada --ssh-key id.pub --password-file password --wifi Garden --wifi-password-file password --country DE --i2c --overlay w1-gpio,gpiopin=17", 0, "for the format cloudinit-rpi", ""},
		{image, 2, "", "new.img: file exists"},
	} {
		s.run(t, dir)
	}
	path := filepath.Join(dir, "new.img")
	read := func(name string) string {
		out := filepath.Join(t.TempDir(), "file")
		program(t, "mcopy", "-n", "-i", path+"@@4194304", "::"+name, out)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, want := range map[string]string{
		"user-data":                "  passwd: \"$2a$10$",
		"network-config":           "\"Garden\":\n          hidden: false\n          password: \"",
		"config.txt":               "dtparam=audio=on\n\n[all]\ndtparam=i2c_arm=on\ndtoverlay=w1-gpio,gpiopin=17\n",
		"cmdline.txt":              "cfg80211.ieee80211_regdom=DE ds=nocloud;i=postern-",
		"postern/p.deb":            "!<arch>\n",
		"postern/etc/postern.yaml": "mqtt: {enabled: false}\n",
		"postern/etc/users.json":   "{}\n",
		"postern/firstboot.sh":     "#!/bin/sh\n",
	} {
		if got := read(name); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || bytes.Contains(b, []byte("correct horse")) {
		t.Errorf("a password is there for all to read: %v, %v", info.Mode(), err)
	}
}
