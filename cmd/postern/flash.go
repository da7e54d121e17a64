package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/postern-iot/postern/image/flash"
)

// machine is where the disks are.
var machine = flash.System{Root: "/"}

func newFlash() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flash COMMAND",
		Short: "Write an image to a memory card, and check it",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFlashList(), newFlashWrite(), newFlashVerify())
	return cmd
}

func newFlashList() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the disks that could be written",
		Long: "list shows the disks that an image could be written to; with --all also the others, and why not. A serial\n" +
			"number of - is none.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			disks, err := machine.List()
			if err != nil {
				return err
			}
			type entry struct {
				*flash.Disk
				Refused []string `json:"refused"`
			}
			entries := []entry{}
			for _, d := range disks {
				if why := d.Refusals(0, flash.Allow{Mounted: true}); all || len(why) == 0 {
					entries = append(entries, entry{d, why})
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), entries)
			}
			if len(entries) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "no card or stick is here that could be written; 'postern flash list --all' says what there is, and why not")
				return err
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, "DISK\tMODEL\tSIZE\tSERIAL\tBUS\t")
			for _, e := range entries {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Path, dash(e.Model), flash.Bytes(e.Size), dash(e.Serial), dash(e.Bus), strings.Join(e.Refused, "; "))
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list of objects")
	cmd.Flags().BoolVar(&all, "all", false, "also disks that are not written, and why")
	return cmd
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// flashing is the flags of write and verify, and what they work with.
type flashing struct {
	allow         flash.Allow
	yes, asJSON   bool
	serial, sum   string
	image, target string
	disk          *flash.Disk // nil for a plain file
	progress      *progress
}

func (f *flashing) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "report progress and result as JSON, an object a line, on standard output")
	cmd.Flags().StringVar(&f.sum, "sha256", "", "checksum that the unpacked image must have")
}

func newFlashWrite() *cobra.Command {
	var f flashing
	cmd := &cobra.Command{
		Use:   "write IMAGE [DISK]",
		Short: "Write an image to a card or a plain file",
		Long: "write reads the image to its end, then asks for the disk's model and size, writes, and reads all of it back.\n" +
			"The first block comes last: a card that was written in part does not boot. Interrupted, it goes on where it\n" +
			"was when the same command is given again. IMAGE may be packed with gzip, xz or zstd. Without DISK it is the\n" +
			"only card or stick that is there, or the one that --serial names.\n\n" +
			"It refuses disks that this machine runs from, whatever the flags, and disks that are mounted, in use,\n" +
			"read-only, too small, not removable, or larger than cards are.",
		Example: "  postern flash list\n" +
			"  sudo postern flash write raspios.img.xz /dev/sda\n" +
			"  sudo postern flash write site.img /dev/sda --yes --serial 000000001206 --json",
		Args: twoArguments,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args, f.write) },
	}
	f.flags(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.yes, "yes", false, "do not ask; for a disk, --serial says which one is meant")
	fl.StringVar(&f.serial, "serial", "", "serial number that the disk must have; - for none")
	fl.BoolVar(&f.allow.Mounted, "unmount", false, "unmount what is mounted of the disk")
	fl.BoolVar(&f.allow.Fixed, "fixed", false, "also a disk that is not removable")
	fl.Int64Var(&f.allow.MaxSize, "max-size", flash.DefaultMaxSize, "most `BYTES` that a disk may have")
	return cmd
}

func newFlashVerify() *cobra.Command {
	var f flashing
	cmd := &cobra.Command{
		Use:   "verify IMAGE DISK",
		Short: "Compare a card or a plain file with an image",
		Long: "verify reads both, and says where they first differ. The exit status is 1 when they do. A card that has\n" +
			"booted differs: the system on it has written to it.",
		Args: twoArguments,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args, f.verify) },
	}
	f.flags(cmd)
	return cmd
}

func twoArguments(cmd *cobra.Command, args []string) error {
	if len(args) != 2 && (len(args) != 1 || cmd.Name() != "write") {
		return usage("an image and a disk are needed; 'postern flash list' lists disks, 'postern flash %s --help' shows examples", cmd.Name())
	}
	return nil
}

// run finds the disk, reads the image, and does the rest.
func (f *flashing) run(cmd *cobra.Command, args []string, do func(context.Context, *cobra.Command, *flash.Plan) error) error {
	f.image = args[0]
	if len(args) > 1 {
		f.target = args[1]
	} else if err := f.only(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f.progress = newProgress(cmd, f.asJSON)
	err := f.find()
	if err == nil && cmd.Name() == "write" {
		err = f.refused(0) // before the image is read, which may take a minute
	}
	if err == nil {
		var plan *flash.Plan
		if plan, err = f.scan(ctx); err == nil {
			err = do(ctx, cmd, plan)
		}
	}
	f.progress.end(err)
	if errors.Is(err, flash.ErrInterrupted) {
		return fmt.Errorf("%w; the same command goes on where it was", err)
	}
	return err
}

// only takes the one disk that may be written.
func (f *flashing) only() error {
	disks, err := machine.List()
	if err != nil {
		return err
	}
	var found []string
	for _, d := range disks {
		if (f.serial == "" || f.serial == dash(d.Serial)) && len(d.Refusals(0, flash.Allow{Mounted: true, MaxSize: f.allow.MaxSize})) == 0 {
			found = append(found, d.Path)
			f.target = d.Path
		}
	}
	switch len(found) {
	case 0:
		return usage("no card or stick is here that could be written; 'postern flash list --all' says what there is, and why not")
	case 1:
		return nil
	}
	return usage("which disk is meant? There are %s; 'postern flash list' says more of them", strings.Join(found, ", "))
}

// find looks the disk up. A path that is not in /dev is a plain file.
func (f *flashing) find() error {
	d, err := machine.Find(f.target)
	switch {
	case err == nil:
		f.disk = d
		return nil
	case strings.HasPrefix(filepath.Clean(f.target), "/dev/") || !errors.Is(err, flash.ErrNoDisk) && !errors.Is(err, os.ErrNotExist):
		return usage("%w; 'postern flash list' lists disks", err)
	}
	if info, err := os.Stat(f.target); err == nil && !info.Mode().IsRegular() {
		return usage("%s is neither a disk nor a plain file", f.target)
	}
	return nil
}

// scan reads the image once.
func (f *flashing) scan(ctx context.Context) (*flash.Plan, error) {
	r, err := flash.Open(f.image)
	if err != nil {
		return nil, usage("%w", err)
	}
	defer r.Close()
	var total int64
	if plain, ok := r.(*os.File); ok {
		if info, err := plain.Stat(); err == nil {
			total = info.Size()
		}
	}
	plan, err := flash.Scan(ctx, r, flash.ChunkSize, total, f.progress.report)
	if err != nil {
		return nil, err
	}
	if f.sum != "" && !strings.EqualFold(f.sum, plan.Sum()) {
		return nil, fmt.Errorf("the image's checksum is %s, and --sha256 wants %s", plan.Sum(), f.sum)
	}
	return plan, nil
}

func (f *flashing) write(ctx context.Context, cmd *cobra.Command, plan *flash.Plan) error {
	if err := f.permitted(cmd, plan); err != nil {
		return err
	}
	target, id, err := f.open(plan)
	if err != nil {
		return err
	}
	journal, err := openJournal(id, plan)
	if err != nil {
		return errors.Join(err, target.Close())
	}
	r, err := flash.Open(f.image)
	if err != nil {
		return errors.Join(err, target.Close())
	}
	defer r.Close()
	if n := journal.Len(); n > 0 {
		f.progress.say("going on where the last write was: %s may be there already", flash.Bytes(int64(n)*int64(plan.Chunk)))
	}
	result, err := flash.Write(ctx, target, plan, r, journal, f.progress.report)
	if err == nil {
		flash.Reread(target)
	}
	if err := errors.Join(err, target.Close()); err != nil {
		return err
	}
	f.progress.done(plan, result, "wrote")
	return nil
}

func openJournal(id string, plan *flash.Plan) (*flash.Journal, error) {
	path, err := flash.JournalPath(id)
	if err != nil {
		return nil, err
	}
	return flash.OpenJournal(path, id, plan)
}

// open opens the target, and names it for the journal.
func (f *flashing) open(plan *flash.Plan) (flash.OpenTarget, string, error) {
	if f.disk == nil {
		id, err := filepath.Abs(f.target)
		if err != nil {
			return nil, "", fmt.Errorf("open the file: %w", err)
		}
		t, err := flash.CreateFile(f.target, plan.Size)
		return t, id, err
	}
	if f.allow.Mounted {
		if err := machine.Unmount(f.disk); err != nil {
			return nil, "", err
		}
	}
	t, err := machine.OpenDisk(f.disk)
	return t, fmt.Sprintf("%s %s %s %d", f.disk.Path, f.disk.Model, f.disk.Serial, f.disk.Size), err
}

// permitted refuses, or asks.
func (f *flashing) permitted(cmd *cobra.Command, plan *flash.Plan) error {
	if f.disk == nil {
		if info, err := os.Stat(f.target); err == nil && info.Size() > 0 && !f.yes {
			return usage("%s exists already; --yes overwrites it, or goes on with it", f.target)
		}
		return nil
	}
	if err := f.refused(plan.Size); err != nil {
		return err
	}
	if f.serial != "" && f.serial != dash(f.disk.Serial) {
		return usage("%s has the serial number %s, and --serial wants %s", f.disk.Path, dash(f.disk.Serial), f.serial)
	}
	if f.yes {
		if f.serial == "" {
			return usage("--yes needs --serial, so that no other disk is written by mistake; that of %s is %s", f.disk.Path, dash(f.disk.Serial))
		}
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "All that is on %s will be lost: %s, serial number %s, %s.\nType its model and size, %q, to go on: ",
		f.disk.Path, dash(f.disk.Model), dash(f.disk.Serial), flash.Bytes(f.disk.Size), f.disk.Title())
	line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 1024)).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.Join(strings.Fields(line), " ") != f.disk.Title() {
		return usage("nothing was written: %q is not %q", strings.TrimSpace(line), f.disk.Title())
	}
	return nil
}

// refused is the error of a disk that is not written with so many bytes.
func (f *flashing) refused(size int64) error {
	if f.disk == nil {
		return nil
	}
	if why := f.disk.Refusals(size, f.allow); len(why) > 0 {
		return usage("%s (%s) is not written:\n  %s", f.disk.Path, f.disk.Title(), strings.Join(why, "\n  "))
	}
	return nil
}

func (f *flashing) verify(ctx context.Context, _ *cobra.Command, plan *flash.Plan) error {
	var target flash.OpenTarget
	var err error
	if f.disk != nil {
		target, err = machine.ReadDisk(f.disk)
	} else {
		var plain *os.File
		if plain, err = os.Open(f.target); err != nil {
			return usage("%w", err)
		}
		target = &flash.File{File: plain}
	}
	if err != nil {
		return err
	}
	defer target.Close()
	if err := flash.Verify(ctx, target, plan, f.progress.report); err != nil {
		return err
	}
	f.progress.done(plan, flash.Result{}, "is there, byte for byte:")
	return nil
}
