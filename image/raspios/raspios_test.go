package raspios

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-iot/postern/image/boot"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

// partition is a boot partition in memory.
type partition map[string]string

func (p partition) ReadFile(path string, most int64) ([]byte, error) {
	if b, ok := p[path]; ok && int64(len(b)) <= most {
		return []byte(b), nil
	}
	return nil, fs.ErrNotExist
}

func (p partition) WriteFile(path string, data []byte) error {
	p[path] = string(data)
	return nil
}

// Boot partitions as the images have them, as far as it matters.
var images = map[Format]partition{
	Systemd: {
		"issue.txt":   "Raspberry Pi reference 2025-05-13\nGenerated using pi-gen, https://github.com/RPi-Distro/pi-gen, stage2\n",
		"cmdline.txt": "console=serial0,115200 console=tty1 root=PARTUUID=dd5d14a3-02 rootfstype=ext4 fsck.repair=yes rootwait quiet init=/usr/lib/raspberrypi-sys-mods/firstboot\n",
		"config.txt":  "# For more options and information see\n# http://rptl.io/configtxt\ndtparam=audio=on\n\n[cm4]\notg_mode=1\n",
	},
	CloudInitRPi: {
		"issue.txt":      "Raspberry Pi reference 2025-12-04\n",
		"cmdline.txt":    "console=serial0,115200 console=tty1 root=PARTUUID=8f3ba2d3-02 rootfstype=ext4 fsck.repair=yes rootwait resize ds=nocloud;i=rpi-image-1",
		"config.txt":     "dtparam=audio=on\n",
		"user-data":      "#cloud-config\n",
		"meta-data":      "instance_id: rpios-image\n",
		"network-config": "# nothing\n",
	},
	CloudInit: {
		"cmdline.txt":    "console=serial0,115200 multipath=off dwc_otg.lpm_enable=0 console=tty1 root=LABEL=writable rootfstype=ext4 rootwait fixrtc\n",
		"config.txt":     "[all]\nkernel=vmlinuz\n",
		"user-data":      "#cloud-config\nchpasswd: {expire: true}\n",
		"meta-data":      "instance-id: nocloud\n",
		"network-config": "version: 2\n",
	},
	Preseed: {
		"issue.txt":        "Raspberry Pi reference 2026-06-01\n",
		"cmdline.txt":      "console=serial0,115200 console=tty1 root=PARTUUID=8f3ba2d3-02 rootfstype=ext4 rootwait\n",
		"config.txt":       "dtparam=audio=on\n",
		"rpi-preseed.toml": "# config_version = \"1.1\"\n",
	},
}

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJb1oQ0fRr2hOaSCHGhTPqCDQ0zBOlvq9X9r0Hb2kQpV ada's \"laptop\" \\ $HOME `id`"

// settings is everything at once, with what has to be quoted.
func settings(t *testing.T) *Settings {
	t.Helper()
	psk, err := Key("Ada's \"Garden\" \\$x", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	return &Settings{
		Hostname: "greenhouse", User: "ada", Password: "$2a$10$abcdefghijklmnopqrstuuKl2nO1x3Fz7m8Yb6c5d4e3f2g1h0i9jK",
		Keys: []string{key}, WiFi: &WiFi{SSID: "Ada's \"Garden\" \\$x", Key: psk, Hidden: true},
		Country: "DE", Timezone: "Europe/Berlin", I2C: true, SPI: true, OneWire: true, Serial: true,
		Overlays: []string{"w1-gpio,gpiopin=17", "pwm-2chan"}, Parameters: []string{"strict_gpiod=on"},
		Deb:   &File{"postern_1.0.0-1_arm64.deb", []byte("!<arch>\nnot really\n")},
		Files: []File{{"postern.yaml", []byte("realms: []\n")}, {"users.json", []byte("{}\n")}},
	}
}

// TestFormats compares what is written with testdata/FORMAT.
func TestFormats(t *testing.T) {
	for _, format := range Formats {
		p := maps.Clone(images[format])
		found, err := Detect(p)
		if err != nil || found != format {
			t.Errorf("%s is taken for %q, %v", format, found, err)
		}
		names, err := Apply(p, format, settings(t))
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		again := maps.Clone(images[format])
		if _, err := Apply(again, format, settings(t)); err != nil || !maps.Equal(p, again) {
			t.Errorf("%s: the second time it is another: %v", format, err)
		}
		dir := filepath.Join("testdata", string(format))
		for _, name := range names {
			if strings.HasPrefix(name, folder) {
				continue
			}
			path := filepath.Join(dir, name)
			if *rewrite {
				if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, []byte(p[name]), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(path); err != nil || string(want) != p[name] {
				t.Errorf("%s is not as in testdata (%v); -rewrite if it should not be:\n%s", path, err, p[name])
			}
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != len(names)-4 {
			t.Errorf("%s: %d files in testdata, written %q, %v", format, len(files), names, err)
		}
	}
}

// TestNothing changes nothing that was not asked for.
func TestNothing(t *testing.T) {
	for _, format := range Formats {
		p := maps.Clone(images[format])
		if _, err := Apply(p, format, &Settings{}); err != nil {
			t.Error(err)
		}
		if p["config.txt"] != images[format]["config.txt"] {
			t.Errorf("%s: config.txt %q", format, p["config.txt"])
		}
		if !strings.HasPrefix(p["cmdline.txt"], strings.TrimSpace(without(images[format]["cmdline.txt"], "ds="))) {
			t.Errorf("%s: cmdline.txt %q", format, p["cmdline.txt"])
		}
		for name := range p {
			if strings.HasPrefix(name, folder) {
				t.Errorf("%s: %s", format, name)
			}
		}
	}
}

func TestDetect(t *testing.T) {
	for want, p := range map[string]partition{
		"no cmdline.txt and config.txt": {"issue.txt": "Raspberry Pi reference 2025-05-13\n"},
		"give the format with --format": {"cmdline.txt": "root=/dev/sda2", "config.txt": "\n"},
	} {
		if f, err := Detect(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, %v, want %q", f, err, want)
		}
	}
	if _, err := Apply(images[Systemd], "firstrun", &Settings{}); err == nil || !strings.Contains(err.Error(), "there are systemd") {
		t.Errorf("a format that is none: %v", err)
	}
	if _, err := Apply(partition{}, Systemd, &Settings{}); err == nil || !strings.Contains(err.Error(), "no cmdline.txt") {
		t.Errorf("an empty partition: %v", err)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(s *Settings){
		`hostname: "Green House" is none`: func(s *Settings) { s.Hostname = "Green House" },
		`user: "Ada;id" is none`:          func(s *Settings) { s.User = "Ada;id" },
		"root has no login":               func(s *Settings) { s.User = "root" },
		"not in the form of crypt(3)":     func(s *Settings) { s.Password = "$hunter'2 hunter" },
		"SSH key: \"ssh-rsa":              func(s *Settings) { s.Keys = []string{"ssh-rsa AAAA\nB"} },
		`country: "Germany" is none`:      func(s *Settings) { s.Country = "Germany" },
		`time zone: "a b" is none`:        func(s *Settings) { s.Timezone = "a b" },
		`overlay: "x\ny" is none`:         func(s *Settings) { s.Overlays = []string{"x\ny"} },
		`parameter: "x y" is none`:        func(s *Settings) { s.Parameters = []string{"x y"} },
		"is no name of a network":         func(s *Settings) { s.WiFi.SSID = strings.Repeat("x", 33) },
		"64 hexadecimal digits":           func(s *Settings) { s.WiFi.Key = "password" },
		"the country is missing":          func(s *Settings) { s.Country = "" },
		"needs the name of its user":      func(s *Settings) { s.User = "" },
		"nobody can log in":               func(s *Settings) { s.Password, s.Keys = "", nil },
		"whose package is missing":        func(s *Settings) { s.Deb = nil },
		`file: "../x" is none`:            func(s *Settings) { s.Files[0].Name = "../x" },
		`"users.json" is there twice`:     func(s *Settings) { s.Files[0].Name = "users.json" },
		"is no Debian package":            func(s *Settings) { s.Deb.Data = []byte("PK") },
	} {
		s := settings(t)
		change(s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, password := range []string{"short", strings.Repeat("x", 64), "grüße dich"} {
		if _, err := Key("net", password); err == nil {
			t.Errorf("%q is a password", password)
		}
	}
	// The example of IEEE 802.11, annex J: SSID "IEEE", password "password".
	if got, err := Key("IEEE", "password"); err != nil || got != "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e" {
		t.Errorf("key %q, %v", got, err)
	}
}

// TestFirstRun runs the script of the format systemd, with a program in the
// place of those of Raspberry Pi OS that notes its arguments.
func TestFirstRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	write("imager_custom", "#!/bin/sh\nprintf '<%s>' custom \"$@\" >>"+dir+"/calls; echo >>"+dir+"/calls\n")
	write("userconf", "#!/bin/sh\nprintf '<%s>' userconf \"$@\" >>"+dir+"/calls; echo >>"+dir+"/calls\n")
	write("boot/firmware/postern/firstboot.sh", "echo '<firstboot>' >>"+dir+"/calls\n")
	p := maps.Clone(images[Systemd])
	s := settings(t)
	if _, err := Apply(p, Systemd, s); err != nil {
		t.Fatal(err)
	}
	write("boot/cmdline.txt", p["cmdline.txt"])
	script := strings.NewReplacer("/usr/lib/raspberrypi-sys-mods/imager_custom", dir+"/imager_custom", "/usr/lib/userconf-pi/userconf", dir+"/userconf",
		"/boot", dir+"/boot", "/var/log", dir, "/etc/modules-load.d", dir).Replace(p["firstrun.sh"])
	write("boot/firstrun.sh", script)
	if out, err := exec.Command("sh", filepath.Join(dir, "boot/firstrun.sh")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	want := "<custom><set_hostname><greenhouse>\n<userconf><ada><" + s.Password + ">\n<custom><enable_ssh><-k><" + key + ">\n" +
		"<custom><set_wlan><-h><" + s.WiFi.SSID + "><" + s.WiFi.Key + "><DE>\n<custom><set_timezone><Europe/Berlin>\n<firstboot>\n"
	if string(calls) != want {
		t.Errorf("calls\n%s, want\n%s", calls, want)
	}
	after, err := os.ReadFile(filepath.Join(dir, "boot/cmdline.txt"))
	if err != nil || strings.Contains(string(after), "systemd.") || !strings.Contains(string(after), "init=/usr/lib/raspberrypi-sys-mods/firstboot cfg80211.ieee80211_regdom=DE") {
		t.Errorf("cmdline.txt after: %q, %v", after, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "boot/firstrun.sh")); err == nil {
		t.Error("the script would run again")
	}
}

const start = 4 << 20

// TestImage customises an image like Raspberry Pi OS's in each format, reads it
// back with mtools, and has fsck look at it.
func TestImage(t *testing.T) {
	for _, format := range Formats {
		path := filepath.Join(t.TempDir(), "raspios.img")
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		mbr := make([]byte, 512)
		mbr[446+4] = 0x0c
		binary.LittleEndian.PutUint32(mbr[446+8:], start/512)
		binary.LittleEndian.PutUint32(mbr[446+12:], 34<<20/512)
		mbr[510], mbr[511] = 0x55, 0xAA
		if _, err := f.WriteAt(mbr, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(start + 34<<20); err != nil {
			t.Fatal(err)
		}
		tool(t, "mkfs.vfat", "-F", "32", "-s", "1", "--offset", fmt.Sprint(start/512), "-n", "bootfs", path, fmt.Sprint(34<<10))
		at := fmt.Sprintf("%s@@%d", path, start)
		for name, text := range images[format] {
			from := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(from, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			tool(t, "mcopy", "-i", at, from, "::"+name)
		}
		fat, err := boot.OpenPartition(f, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if found, err := Detect(fat); found != format || err != nil {
			t.Errorf("%s is taken for %q, %v", format, found, err)
		}
		s := settings(t)
		s.Deb.Data = append(s.Deb.Data, bytes.Repeat([]byte{1}, 5<<20)...)
		names, err := Apply(fat, format, s)
		if err == nil {
			err = fat.Flush()
		}
		if err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(images[format])
		if _, err := Apply(want, format, s); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(names, "postern/firstboot.sh") {
			t.Errorf("%s: written %q", format, names)
		}
		for name, text := range want {
			to := filepath.Join(t.TempDir(), "file")
			tool(t, "mcopy", "-n", "-i", at, "::"+name, to)
			if b, err := os.ReadFile(to); err != nil || string(b) != text {
				t.Errorf("%s: %s has %d bytes, want %d, %v", format, name, len(b), len(text), err)
			}
		}
		fsck(t, f)
	}
}

func fsck(t *testing.T, image *os.File) {
	t.Helper()
	part, err := os.Create(filepath.Join(t.TempDir(), "part"))
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	if _, err := io.Copy(part, io.NewSectionReader(image, start, 1<<40)); err != nil {
		t.Fatal(err)
	}
	tool(t, "fsck.vfat", "-n", part.Name())
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}
