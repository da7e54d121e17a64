// Package raspios prepares an image of Raspberry Pi OS, or of Ubuntu for the
// Raspberry Pi, for its first boot: it puts files onto the boot partition from
// which the system makes its user, network and host name, and installs the
// gateway. Which files, the image's release says: there are four formats.
//
// It writes to the boot partition only, has no goroutines, and draws no random
// numbers: the same settings give the same files.
package raspios

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// Format is how an image takes its settings.
type Format string

// The formats, as Raspberry Pi Imager calls them
// (rpi-imager, doc/os_customisation_formats.md).
const (
	Systemd      Format = "systemd"       // firstrun.sh: until the first release with Debian 13
	CloudInit    Format = "cloudinit"     // Ubuntu
	CloudInitRPi Format = "cloudinit-rpi" // Raspberry Pi OS from November 2025
	Preseed      Format = "rpi-preseed"
)

// Formats is all of them.
var Formats = []Format{Systemd, CloudInit, CloudInitRPi, Preseed}

// Boot is the boot partition.
type Boot interface {
	// ReadFile reads a file of at most so many bytes; fs.ErrNotExist if it is
	// not there.
	ReadFile(path string, most int64) ([]byte, error)
	WriteFile(path string, data []byte) error
}

// Settings is what the first boot makes of the system. What is empty stays as it
// is.
type Settings struct {
	Hostname string
	User     string
	Password string   // crypt(3)'s form, "$…"
	Keys     []string // that may log in by SSH
	WiFi     *WiFi
	Country  string // of Wi-Fi's rules: two capital letters
	Timezone string // "Europe/Berlin"

	I2C, SPI, OneWire, Serial bool
	Overlays                  []string // "name,parameter=value"
	Parameters                []string // of the device tree, "name=value"

	Deb   *File  // the gateway's package
	Files []File // for /etc/postern
}

// File is a file that the system gets.
type File struct {
	Name string
	Data []byte
}

// WiFi is a network.
type WiFi struct {
	SSID   string
	Key    string // 64 hexadecimal digits, of Key; empty for an open network
	Hidden bool
}

// Key makes a network's key of its password (IEEE 802.11, PSK mapping), so that the
// password itself is not on the card.
func Key(ssid, password string) (string, error) {
	if len(password) < 8 || len(password) > 63 || strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", errors.New("a Wi-Fi password has 8 to 63 letters, digits and signs of ASCII")
	}
	key, err := pbkdf2.Key(sha1.New, password, []byte(ssid), 4096, 32)
	return hex.EncodeToString(key), err
}

// The forms, compiled when they are asked for: most runs of the gateway never do.
var (
	hostnames  = onDemand(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	usernames  = onDemand(`^[a-z][a-z0-9_-]{0,31}$`)
	hashes     = onDemand(`^\$[a-zA-Z0-9./$=,_-]{10,500}$`)
	publicKeys = onDemand(`^(ssh-[a-z0-9-]+|ecdsa-sha2-[a-z0-9-]+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]{20,}( [^\x00-\x1f\x7f]*)?$`)
	countries  = onDemand(`^[A-Z]{2}$`)
	timezones  = onDemand(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
	keys       = onDemand(`^[0-9a-f]{64}$`)
	treeLines  = onDemand(`^[A-Za-z0-9_-]+([,=:][A-Za-z0-9_.,=:-]*)?$`)
	filenames  = onDemand(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$`)
)

func onDemand(form string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(form) })
}

// Validate says what is wrong with the settings. All that will be in a script,
// in YAML or TOML has only letters that mean nothing there, or is quoted.
func (s *Settings) Validate() error {
	var problems []error
	check := func(what, value string, valid func() *regexp.Regexp, hint string) {
		if value != "" && !valid().MatchString(value) {
			problems = append(problems, fmt.Errorf("%s: %q is none; %s", what, value, hint))
		}
	}
	check("hostname", s.Hostname, hostnames, "it has small letters, digits and -, at most 63")
	check("user", s.User, usernames, "it begins with a small letter and has such, digits, _ and -")
	if s.User == "root" {
		problems = append(problems, errors.New("user: root has no login on Raspberry Pi OS; name another"))
	}
	if s.Password != "" && !hashes().MatchString(s.Password) { // not shown: it may be the password
		problems = append(problems, errors.New("password: it is not in the form of crypt(3)"))
	}
	for _, k := range s.Keys {
		check("SSH key", k, publicKeys, "it is a line as in id_ed25519.pub")
	}
	check("country", s.Country, countries, "two capital letters, as DE")
	check("time zone", s.Timezone, timezones, "a name as Europe/Berlin")
	for _, o := range s.Overlays {
		check("overlay", o, treeLines, "write name,parameter=value")
	}
	for _, p := range s.Parameters {
		check("parameter", p, treeLines, "write name=value")
	}
	if w := s.WiFi; w != nil {
		if w.SSID == "" || len(w.SSID) > 32 || !utf8.ValidString(w.SSID) || strings.ContainsFunc(w.SSID, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			problems = append(problems, fmt.Errorf("wifi: %q is no name of a network; it has 1 to 32 bytes of text", w.SSID))
		}
		if w.Key != "" && !keys().MatchString(w.Key) {
			problems = append(problems, errors.New("wifi: the key does not have 64 hexadecimal digits"))
		}
		if s.Country == "" {
			problems = append(problems, errors.New("wifi: the country is missing: without it the Pi's Wi-Fi stays off"))
		}
	}
	if (s.Password != "" || len(s.Keys) > 0) && s.User == "" {
		problems = append(problems, errors.New("user: a password or SSH key needs the name of its user"))
	}
	if s.User != "" && s.Password == "" && len(s.Keys) == 0 {
		problems = append(problems, errors.New("user: it needs a password or an SSH key, or nobody can log in"))
	}
	if len(s.Files) > 0 && s.Deb == nil {
		problems = append(problems, errors.New("files: they are for the gateway, whose package is missing"))
	}
	names := map[string]bool{}
	for _, f := range s.Files {
		check("file", f.Name, filenames, "it has letters, digits, ., _, + and -")
		if names[f.Name] {
			problems = append(problems, fmt.Errorf("file: %q is there twice", f.Name))
		}
		names[f.Name] = true
	}
	if s.Deb != nil {
		check("package", s.Deb.Name, filenames, "it has letters, digits, ., _, + and -")
		if !strings.HasPrefix(string(s.Deb.Data[:min(len(s.Deb.Data), 8)]), "!<arch>\n") {
			problems = append(problems, fmt.Errorf("package: %s is no Debian package", s.Deb.Name))
		}
	}
	return errors.Join(problems...)
}

const maxText = 1 << 20 // bytes of a text file on the boot partition

// Detect says which format an image has, by what its boot partition carries:
// templates of cloud-init or rpi-preseed, or the release's name.
func Detect(boot Boot) (Format, error) {
	text := func(name string) string {
		b, err := boot.ReadFile(name, maxText)
		if err != nil {
			return ""
		}
		return string(b)
	}
	has := func(name string) bool {
		_, err := boot.ReadFile(name, maxText)
		return err == nil
	}
	cmdline, issue := text("cmdline.txt"), text("issue.txt")
	ours := strings.Contains(issue, "Raspberry Pi reference")
	switch {
	case cmdline == "" || !has("config.txt"):
		return "", errors.New("the boot partition has no cmdline.txt and config.txt: it is no image for a Raspberry Pi")
	case has("rpi-preseed.toml"):
		return Preseed, nil
	case ours && (has("user-data") || has("meta-data")):
		return CloudInitRPi, nil
	case has("user-data") || has("meta-data") || strings.Contains(cmdline, "ds=nocloud"):
		return CloudInit, nil
	case ours:
		return Systemd, nil
	}
	return "", errors.New("the boot partition does not say which release it is: give the format with --format, systemd for Raspberry Pi OS with Debian 12, cloudinit-rpi for newer ones, cloudinit for Ubuntu, rpi-preseed where that package is installed")
}

// folder is where the first boot finds what is for the gateway.
const folder = "postern"

// Apply writes the settings to a boot partition, and gives the names of the
// files that it wrote.
func Apply(boot Boot, format Format, s *Settings) ([]string, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	w := &writer{boot: boot}
	cmdline, config := w.read("cmdline.txt"), w.read("config.txt")
	if w.err != nil {
		return nil, w.err
	}
	cmdline = s.kernel(cmdline)
	if s.Deb != nil {
		w.write(folder+"/"+s.Deb.Name, s.Deb.Data)
		for _, f := range s.Files {
			w.write(folder+"/etc/"+f.Name, f.Data)
		}
		w.write(folder+"/firstboot.sh", []byte(firstBoot))
	}
	switch format {
	case Systemd:
		w.write("firstrun.sh", []byte(s.firstRun()))
		cmdline += " systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"
	case CloudInit, CloudInitRPi:
		data := s.userData(format == CloudInitRPi)
		id := s.instance(data)
		w.write("user-data", []byte(data))
		w.write("meta-data", []byte("instance-id: "+id+"\n"))
		if s.WiFi != nil {
			w.write("network-config", []byte(s.networkConfig()))
		}
		cmdline = without(cmdline, "ds=nocloud") + " ds=nocloud;i=" + id
	case Preseed:
		w.write("rpi-preseed.toml", []byte(s.toml()))
	default:
		return nil, fmt.Errorf("there is no format %q; there are systemd, cloudinit, cloudinit-rpi, rpi-preseed", format)
	}
	w.write("cmdline.txt", []byte(cmdline+"\n"))
	if lines := s.tree(); len(lines) > 0 {
		w.write("config.txt", []byte(strings.TrimRight(config, "\n")+"\n\n[all]\n"+strings.Join(lines, "\n")+"\n"))
	}
	return w.names, w.err
}

// writer keeps its first error.
type writer struct {
	boot  Boot
	names []string
	err   error
}

func (w *writer) read(name string) string {
	b, err := w.boot.ReadFile(name, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the boot partition has no %s: it is no image for a Raspberry Pi", name)
	}
	if w.err == nil {
		w.err = err
	}
	return string(b)
}

func (w *writer) write(name string, data []byte) {
	if w.err == nil {
		w.err = w.boot.WriteFile(name, data)
		w.names = append(w.names, name)
	}
}

// instance tells cloud-init one set of settings from another.
func (s *Settings) instance(data string) string {
	h := sha256.New()
	h.Write([]byte(data))
	if s.WiFi != nil {
		h.Write([]byte(s.networkConfig()))
	}
	if s.Deb != nil {
		h.Write(s.Deb.Data)
	}
	for _, f := range s.Files {
		h.Write([]byte(f.Name))
		h.Write(f.Data)
	}
	return "postern-" + hex.EncodeToString(h.Sum(nil)[:8])
}

// kernel is the kernel's command line with the settings, one line.
func (s *Settings) kernel(cmdline string) string {
	cmdline = strings.Join(strings.Fields(cmdline), " ")
	if s.Serial {
		// The serial line is the gateway's, and not the console's.
		for _, console := range []string{"console=serial0", "console=ttyAMA0", "console=ttyS0"} {
			cmdline = without(cmdline, console)
		}
	}
	if s.Country != "" {
		cmdline = without(cmdline, "cfg80211.ieee80211_regdom") + " cfg80211.ieee80211_regdom=" + s.Country
	}
	return cmdline
}

// without is a command line without the words that begin so.
func without(cmdline, prefix string) string {
	var keep []string
	for _, word := range strings.Fields(cmdline) {
		if !strings.HasPrefix(word, prefix) {
			keep = append(keep, word)
		}
	}
	return strings.Join(keep, " ")
}

// tree is the lines of config.txt that make busses and overlays.
func (s *Settings) tree() []string {
	var lines []string
	add := func(wanted bool, line string) {
		if wanted {
			lines = append(lines, line)
		}
	}
	add(s.I2C, "dtparam=i2c_arm=on")
	add(s.SPI, "dtparam=spi=on")
	add(s.OneWire, "dtoverlay=w1-gpio")
	add(s.Serial, "enable_uart=1")
	for _, p := range s.Parameters {
		add(true, "dtparam="+p)
	}
	for _, o := range s.Overlays {
		add(true, "dtoverlay="+o)
	}
	return lines
}
