package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"

	"github.com/postern-iot/postern/devices/all"
	"github.com/postern-iot/postern/gateway/config"
	"github.com/postern-iot/postern/image/boot"
	"github.com/postern-iot/postern/image/flash"
	"github.com/postern-iot/postern/image/raspios"
)

// customising is the flags of image customise.
type customising struct {
	image, out, format       string
	deb, config              string
	files, keys              []string
	password, wifi, wifiFile string
	hidden                   bool
	settings                 raspios.Settings
}

func newImageCustomise() *cobra.Command {
	var c customising
	cmd := &cobra.Command{
		Use:   "customise --image IMAGE --output FILE",
		Short: "Prepare an image of Raspberry Pi OS for its first boot with the gateway",
		Long: "customise copies an official image, packed or not, and has its first boot make a user, join a Wi-Fi network,\n" +
			"switch on busses, and install the gateway's package with a configuration and the files that belong to it.\n" +
			"It changes the boot partition only, and needs no root. The image is for whoever may read its secrets: the\n" +
			"Wi-Fi network's key, the password's hash, and the gateway's files.",
		Example: "  postern image customise --image raspios-lite.img.xz -o site.img \\\n" +
			"    --deb postern_1.0.0-1_arm64.deb --config site.yaml --file users.json \\\n" +
			"    --hostname greenhouse --user ada --ssh-key ~/.ssh/id_ed25519.pub \\\n" +
			"    --wifi Garden --wifi-password-file wifi.secret --country DE --i2c --overlay w1-gpio,gpiopin=4\n" +
			"  sudo postern flash write site.img /dev/sda",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&c.image, "image", "", "the official image (required)")
	f.StringVarP(&c.out, "output", "o", "", "the new image (required)")
	f.StringVar(&c.format, "format", "", "how the image takes its settings: systemd, cloudinit, cloudinit-rpi, rpi-preseed; left out, its boot partition says")
	f.StringVar(&c.deb, "deb", "", "the gateway's Debian package, for the image's architecture")
	f.StringVarP(&c.config, "config", "c", "", "the gateway's configuration, which is checked")
	f.StringArrayVar(&c.files, "file", nil, "file that goes beside the configuration, as users.json; may be repeated")
	f.StringVar(&c.settings.Hostname, "hostname", "", "the Pi's name")
	f.StringVar(&c.settings.User, "user", "", "who may log in")
	f.StringVar(&c.password, "password-file", "", "file with the user's password, or its hash; - for standard input")
	f.StringArrayVar(&c.keys, "ssh-key", nil, "`FILE` with public keys that may log in; then passwords may not, by SSH")
	f.StringVar(&c.wifi, "wifi", "", "name of the Wi-Fi network")
	f.StringVar(&c.wifiFile, "wifi-password-file", "", "file with its password; left out, the network is open")
	f.BoolVar(&c.hidden, "wifi-hidden", false, "the network does not say its name")
	f.StringVar(&c.settings.Country, "country", "", "country whose rules Wi-Fi keeps, as DE")
	f.StringVar(&c.settings.Timezone, "timezone", "", "time zone, as Europe/Berlin")
	f.BoolVar(&c.settings.I2C, "i2c", false, "switch the header's I2C bus on")
	f.BoolVar(&c.settings.SPI, "spi", false, "switch the header's SPI bus on")
	f.BoolVar(&c.settings.OneWire, "one-wire", false, "switch 1-wire on, at GPIO4")
	f.BoolVar(&c.settings.Serial, "serial", false, "switch the header's serial port on, and the console on it off")
	f.StringArrayVar(&c.settings.Overlays, "overlay", nil, "line dtoverlay= of config.txt, as w1-gpio,gpiopin=17; may be repeated")
	f.StringArrayVar(&c.settings.Parameters, "dtparam", nil, "line dtparam= of config.txt, as strict_gpiod=on; may be repeated")
	return cmd
}

func (c *customising) run(cmd *cobra.Command) error {
	if c.image == "" || c.out == "" {
		return usage("--image and --output are needed; 'postern image customise --help' shows an example")
	}
	if err := c.gather(); err != nil {
		return err
	}
	if err := c.settings.Validate(); err != nil {
		return usage("%w", err)
	}
	start := time.Now()
	out, err := os.OpenFile(c.out, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // it has secrets
	if err != nil {
		return usage("make the new image: %w", err)
	}
	size, names, format, err := c.copyAndEdit(out)
	if err := errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(c.out))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: %s in %.0f s, for the format %s\n  on its boot partition: %s\nnext: sudo postern flash write %s DISK\n",
		c.out, flash.Bytes(size), time.Since(start).Seconds(), format, strings.Join(names, ", "), c.out)
	return err
}

func (c *customising) copyAndEdit(out *os.File) (size int64, names []string, format raspios.Format, err error) {
	in, err := flash.Open(c.image)
	if err != nil {
		return 0, nil, "", usage("%w", err)
	}
	defer in.Close()
	if size, err = copySparse(out, in); err != nil {
		return 0, nil, "", err
	}
	partition, err := boot.OpenPartition(out, time.Now())
	if err != nil {
		return 0, nil, "", fmt.Errorf("%s: %w", c.image, err)
	}
	if format = raspios.Format(c.format); format == "" {
		if format, err = raspios.Detect(partition); err != nil {
			return 0, nil, "", usage("%s: %w", c.image, err)
		}
	}
	if names, err = raspios.Apply(partition, format, &c.settings); err != nil {
		return 0, nil, "", err
	}
	return size, names, format, errors.Join(partition.Flush(), out.Sync())
}

// copySparse copies; what is zero takes no room on the disk.
func copySparse(out *os.File, in io.Reader) (int64, error) {
	b := make([]byte, 1<<20)
	zero := make([]byte, len(b))
	var at int64
	for {
		n, err := io.ReadFull(in, b)
		if string(b[:n]) != string(zero[:n]) {
			if _, err := out.WriteAt(b[:n], at); err != nil {
				return 0, fmt.Errorf("write the new image: %w", err)
			}
		}
		at += int64(n)
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			if err := out.Truncate(at); err != nil {
				return 0, fmt.Errorf("write the new image: %w", err)
			}
			return at, nil
		case err != nil:
			return 0, err
		}
	}
}

// The most bytes of what is read whole.
const (
	maxDeb  = 100 << 20
	maxFile = 4 << 20
)

// gather reads what the flags name.
func (c *customising) gather() error {
	s := &c.settings
	if c.deb != "" {
		f, err := fileOf(c.deb, maxDeb)
		if err != nil {
			return err
		}
		s.Deb = &f
	}
	if c.config != "" {
		if _, err := config.Load(c.config, all.Table()); err != nil {
			return &exitError{status: exitUsage, err: err}
		}
		f, err := fileOf(c.config, maxFile)
		if err != nil {
			return err
		}
		f.Name = "postern.yaml"
		s.Files = append(s.Files, f)
	}
	for _, path := range c.files {
		f, err := fileOf(path, maxFile)
		if err != nil {
			return err
		}
		s.Files = append(s.Files, f)
	}
	for _, path := range c.keys {
		f, err := fileOf(path, maxFile)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(f.Data)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				s.Keys = append(s.Keys, line)
			}
		}
	}
	return c.secrets()
}

func (c *customising) secrets() error {
	s := &c.settings
	if c.password != "" {
		password, err := secretLine(c.password)
		if err != nil {
			return err
		}
		if s.Password = password; !strings.HasPrefix(password, "$") {
			if len(password) > 72 {
				return usage("--password-file: a password has at most 72 bytes")
			}
			hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
			if err != nil {
				return fmt.Errorf("hash the password: %w", err)
			}
			s.Password = string(hash)
		}
	}
	if c.wifi == "" {
		if c.wifiFile != "" {
			return usage("--wifi-password-file needs --wifi, the network's name")
		}
		return nil
	}
	s.WiFi = &raspios.WiFi{SSID: c.wifi, Hidden: c.hidden}
	if c.wifiFile != "" {
		password, err := secretLine(c.wifiFile)
		if err != nil {
			return err
		}
		if s.WiFi.Key, err = raspios.Key(c.wifi, password); err != nil {
			return usage("--wifi-password-file: %w", err)
		}
	}
	return nil
}

// fileOf reads a file of at most so many bytes.
func fileOf(path string, most int64) (raspios.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return raspios.File{}, usage("%w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return raspios.File{}, usage("read %s: %w", path, err)
	}
	if int64(len(b)) > most {
		return raspios.File{}, usage("%s has more than %s", path, flash.Bytes(most))
	}
	return raspios.File{Name: filepath.Base(path), Data: b}, nil
}

// secretLine is the first line of a file, - for standard input.
func secretLine(path string) (string, error) {
	in := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", usage("%w", err)
		}
		defer f.Close()
		in = f
	}
	line, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", usage("%s has no first line", path)
	}
	return line, nil
}
