package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	profiles "github.com/postern-iot/postern/firmware-profiles"
	"github.com/postern-iot/postern/image"
	"github.com/postern-iot/postern/image/ext4"
	"github.com/postern-iot/postern/image/layout"
	"github.com/postern-iot/postern/update"
)

func newImage() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Make images for cards",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImageBuild(), newImageCustomise())
	return cmd
}

// imageOptions are the flags of image build.
type imageOptions struct {
	board, config, gateway, out string
	files, boot                 []string
	ca, updateKey               string
	settings                    layout.Settings
}

func newImageBuild() *cobra.Command {
	var o imageOptions
	cmd := &cobra.Command{
		Use:   "build --board BOARD --config FILE -o IMAGE",
		Short: "Make an appliance: a card image that is the gateway and nothing else",
		Long: "build makes a card image of the Raspberry Pi's firmware, a kernel, the gateway as the only program, and a partition\n" +
			"for data with the configuration and its secrets. It needs no root, and the same input gives the same bytes. Firmware\n" +
			"and kernel come from the Go module proxy, are checked, and kept. docs/appliance.md has the rest.\n\n" +
			"The boards are " + strings.Join(profiles.IDs(), ", ") + ".",
		Example: "  postern image build --board 4 --config site.yaml --hostname gate-1 -o gate-1.img\n" +
			"  postern image build --board zero-2-w --config site.yaml --file secrets/mqtt --boot dtoverlay=pwm-2chan -o site.img",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.build(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.board, "board", "", "the board")
	f.StringVar(&o.config, "config", "", "the gateway's configuration")
	f.StringArrayVar(&o.files, "file", nil, "a file that the configuration names, below its folder; any number of times")
	f.StringVar(&o.ca, "ca", "", "certificates of the authorities that the gateway trusts when it connects with TLS")
	f.StringVar(&o.settings.Hostname, "hostname", "", "the machine's name")
	f.StringVar(&o.settings.Address, "address", "", "a fixed address, as 192.168.1.20/24; DHCP without")
	f.StringVar(&o.settings.Router, "router", "", "the router, with --address")
	f.StringArrayVar(&o.settings.DNS, "dns", nil, "a name server, with --address; any number of times")
	f.StringArrayVar(&o.settings.NTP, "ntp", nil, "a time server; any number of times")
	f.StringVar(&o.settings.Update, "update", "", "where updates are taken, as :"+update.Port+"; nowhere without; needs --update-key")
	f.StringVar(&o.updateKey, "update-key", "", "the public key of who may update it, as 'postern keys cryptosign' prints it")
	f.StringArrayVar(&o.boot, "boot", nil, "a further line of config.txt, such as an overlay; any number of times")
	f.StringVar(&o.gateway, "gateway", "", "the appliance's program, as scripts/build makes it; looked for beside this one and in dist/")
	f.StringVarP(&o.out, "output", "o", "", "the image to write")
	return cmd
}

func (o *imageOptions) build(cmd *cobra.Command) error {
	began := time.Now()
	for flag, value := range map[string]string{"board": o.board, "config": o.config, "output": o.out} {
		if value == "" {
			return usage("--%s is missing; 'postern image build --help' shows examples", flag)
		}
	}
	board, err := profiles.Load(o.board)
	if err != nil {
		return usage("--board: %w", err)
	}
	if why := board.Appliance.Unavailable; why != "" {
		return usage("--board: there is no appliance image for the %s: %s", board.Name, why)
	}
	if err := overlaysKnown(board, o.boot); err != nil {
		return err
	}
	data, err := o.data(cmd)
	if err != nil {
		return err
	}
	gateway, from, err := o.program()
	if err != nil {
		return err
	}
	say := func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), s) }
	source, err := image.DefaultSource(say)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	img, err := image.Build(ctx, image.Spec{Board: board, Version: versionText(), Gateway: gateway, Boot: o.boot, Data: data}, source)
	if err != nil {
		return err
	}
	if err := writeImage(o.out, img.Disk); err != nil {
		return err
	}
	mb := func(n int) float64 { return float64(n) / 1e6 }
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: %s, build %s, %.1f MB in %.1f s (gateway %.1f MB of %s; kernel %.1f MB and initramfs %.1f MB compressed)\n",
		o.out, board.Name, img.Release.Build, mb(len(img.Disk)), time.Since(began).Seconds(), mb(len(gateway)), from, mb(img.Kernel), mb(img.Initramfs))
	return err
}

// writeImage writes a file that is not there half: what has its name is whole.
func writeImage(path string, b []byte) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return usage("-o %s is no file; 'postern flash write' writes images to cards", path)
	}
	// For its owner only: the data partition holds secrets.
	f, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the image: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return os.Rename(f.Name(), path)
}

// overlaysKnown checks overlays and their parameters against the board's
// profile: the firmware ignores what it does not know.
func overlaysKnown(board *profiles.Board, lines []string) error {
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n") {
			return usage("--boot: %q is more than one line", line)
		}
		rest, ok := strings.CutPrefix(line, "dtoverlay=")
		if !ok {
			continue
		}
		name, parameters, _ := strings.Cut(rest, ",")
		o := board.Overlay(name)
		if o == nil {
			var names []string
			for _, o := range board.Overlays {
				names = append(names, o.Name)
			}
			return usage("--boot: there is no overlay %q in the image of the %s; there are %s", name, board.Name, strings.Join(names, ", "))
		}
		for _, p := range strings.FieldsFunc(parameters, func(r rune) bool { return r == ',' }) {
			key, _, _ := strings.Cut(p, "=")
			known := false
			for _, have := range o.Parameters {
				known = known || have.Name == key
			}
			if !known {
				return usage("--boot: the overlay %s is not known to have a parameter %q; see docs/boards.md", name, key)
			}
		}
	}
	return nil
}

// data makes the files of the data partition.
func (o *imageOptions) data(cmd *cobra.Command) ([]ext4.File, error) {
	if _, err := load(cmd, o.config); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(o.config)
	if err != nil {
		return nil, err
	}
	settings, err := o.settingsText()
	if err != nil {
		return nil, err
	}
	files := []ext4.File{
		{Name: "config", Mode: 0o700, Folder: true},
		{Name: layout.ConfigFile, Mode: 0o600, Data: text},
		{Name: layout.SettingsFile, Mode: 0o600, Data: settings},
	}
	add := func(name, path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return usage("%w", err)
		}
		files = append(files, ext4.File{Name: name, Mode: 0o600, Data: b})
		return nil
	}
	if (o.settings.Update == "") != (o.updateKey == "") {
		return nil, usage("--update and --update-key go together")
	}
	if o.updateKey != "" {
		if _, err := update.ParsePublicKey(o.updateKey); err != nil {
			return nil, usage("--update-key: %w", err)
		}
		files = append(files, ext4.File{Name: layout.UpdateKey, Mode: 0o600, Data: []byte(o.updateKey + "\n")})
	}
	dir := filepath.Dir(o.config)
	for _, path := range o.files {
		name, err := filepath.Rel(dir, path)
		if err != nil || !filepath.IsLocal(name) {
			return nil, usage("--file %s is not below %s, the configuration's folder", path, dir)
		}
		if err := add("config/"+filepath.ToSlash(name), path); err != nil {
			return nil, err
		}
	}
	if o.ca != "" {
		if err := add(layout.CAFile, o.ca); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// settingsText are the flags as the appliance's settings, checked.
func (o *imageOptions) settingsText() ([]byte, error) {
	var b strings.Builder
	s := &o.settings
	for _, line := range []struct{ key, value string }{
		{"hostname", s.Hostname},
		{"address", s.Address},
		{"router", s.Router},
		{"dns", strings.Join(s.DNS, ", ")},
		{"ntp", strings.Join(s.NTP, ", ")},
		{"update", s.Update},
	} {
		switch {
		case line.value == "":
		case strings.ContainsAny(line.value, "\"\\\r\n[]"):
			return nil, usage("--%s: %q", line.key, line.value)
		case line.key == "dns" || line.key == "ntp":
			fmt.Fprintf(&b, "%s: [%s]\n", line.key, line.value)
		default:
			fmt.Fprintf(&b, "%s: \"%s\"\n", line.key, line.value)
		}
	}
	if b.Len() == 0 {
		b.WriteString("{}\n")
	}
	if _, err := layout.ParseSettings([]byte(b.String())); err != nil {
		return nil, usage("%w", err)
	}
	return []byte(b.String()), nil
}

// programName is what scripts/build calls the appliance's program.
const programName = "postern-appliance-arm64"

// program reads the appliance's program.
func (o *imageOptions) program() ([]byte, string, error) {
	candidates := []string{o.gateway}
	if o.gateway == "" {
		candidates = []string{filepath.Join("dist", programName)}
		if self, err := os.Executable(); err == nil {
			candidates = append([]string{filepath.Join(filepath.Dir(self), programName)}, candidates...)
		}
	}
	for _, path := range candidates {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && o.gateway == "" {
			continue
		}
		if err != nil {
			return nil, "", usage("--gateway: %w", err)
		}
		f, err := elf.Open(path)
		if err != nil {
			return nil, "", usage("--gateway: %s is no program: %w", path, err)
		}
		defer f.Close()
		if f.Machine != elf.EM_AARCH64 || f.Section(".interp") != nil {
			return nil, "", usage("--gateway: %s is for %v; a static program for arm64 is needed", path, f.Machine)
		}
		return b, path, nil
	}
	return nil, "", usage("the appliance's program %s is neither beside this program nor in dist/; 'scripts/build appliance-arm64' makes it, and --gateway names it", programName)
}
