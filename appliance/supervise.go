//go:build linux

package appliance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/postern-iot/postern/image/layout"
)

// How long the gateway may take. It beats every few seconds once it serves.
const (
	startWithin = 90 * time.Second
	beatWithin  = 60 * time.Second
	stopWithin  = 15 * time.Second
	backOffMost = 30 * time.Second
	petEvery    = 4 * time.Second
)

// life is one life of the gateway.
type life struct {
	cmd   *exec.Cmd
	beats chan struct{}
	ended chan error
}

// supervise keeps the gateway running, and returns when the machine has to
// restart.
func (m *machine) supervise() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGPWR)
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil { // Ctrl-Alt-Del comes as SIGINT
		m.logf("Ctrl-Alt-Del restarts at once: %v", err)
	}
	pet := time.NewTicker(petEvery)
	defer pet.Stop()
	for wait := time.Second; ; wait = min(2*wait, backOffMost) {
		began := time.Now()
		err := m.live(signals, pet.C)
		if errors.Is(err, errStopped) {
			return err
		}
		m.logf("the gateway has ended: %v", err)
		m.safeState()
		if err := m.trial.ended(err); err != nil {
			return err
		}
		if time.Since(began) > 5*time.Minute {
			wait = time.Second
		}
		m.logf("it starts again in %v", wait)
		for again := time.After(wait); again != nil; {
			select {
			case <-again:
				again = nil
			case <-pet.C:
				m.watchdog.pet()
			case m.how = <-m.orders:
				return errStopped
			case <-signals:
				return errStopped
			}
		}
	}
}

// live starts the gateway and returns when it has ended.
func (m *machine) live(signals <-chan os.Signal, pet <-chan time.Time) error {
	l, err := m.start()
	if err != nil {
		return err
	}
	ready, killed, stopping := false, error(nil), error(nil)
	stop := func(why error) {
		if stopping == nil {
			stopping = why
			_ = l.cmd.Process.Signal(unix.SIGTERM)
		}
	}
	silence := time.NewTimer(startWithin)
	defer silence.Stop()
	for {
		select {
		case err := <-l.ended:
			switch {
			case stopping != nil:
				return stopping
			case killed != nil:
				return killed
			case err == nil:
				return errors.New("without being told to")
			}
			return err
		case <-l.beats:
			if !ready {
				ready = true
				m.logf("the gateway is ready")
			}
			m.trial.is(true)
			if stopping == nil {
				silence.Reset(beatWithin)
			}
		case <-silence.C:
			killed = fmt.Errorf("nothing was heard of it for too long")
			_ = l.cmd.Process.Kill()
		case <-pet:
			m.watchdog.pet()
			if err := m.trial.judge(); err != nil {
				silence.Reset(stopWithin)
				stop(err)
			}
		case m.how = <-m.orders:
			silence.Reset(stopWithin)
			stop(errStopped)
		case s := <-signals:
			m.logf("%v: stopping", s)
			silence.Reset(stopWithin)
			stop(errStopped)
		}
	}
}

// start starts the gateway.
func (m *machine) start() (*life, error) {
	beats, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	l := &life{cmd: m.command(m.options.Gateway...), beats: make(chan struct{}, 1), ended: make(chan error, 1)}
	l.cmd.ExtraFiles = []*os.File{theirs}
	err = l.cmd.Start()
	theirs.Close()
	if err != nil {
		beats.Close()
		return nil, fmt.Errorf("start the gateway: %w", err)
	}
	go func() {
		defer beats.Close()
		lines := bufio.NewReader(beats)
		for {
			if _, err := lines.ReadSlice('\n'); err != nil {
				if !errors.Is(err, io.EOF) {
					m.logf("the gateway's beat: %v", err)
				}
				break
			}
			select {
			case l.beats <- struct{}{}:
			default:
			}
		}
		l.ended <- l.cmd.Wait()
	}()
	return l, nil
}

// command is this program as another process, with what it writes in the log.
func (m *machine) command(arguments ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", arguments...)
	cmd.Args[0] = "postern"
	cmd.Dir = dataDir
	cmd.Env = []string{
		"HOME=" + dataDir, "STATE_DIRECTORY=" + filepath.Join(dataDir, layout.StateDir), "POSTERN_VERSION=" + m.release.Version,
	}
	if ca := filepath.Join(dataDir, layout.CAFile); exists(ca) {
		cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+ca)
	}
	if m.logs != nil {
		cmd.Stdout, cmd.Stderr = m.logs, m.logs
	}
	// Should this process end, the gateway does as well, and the kernel
	// restarts the machine.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM}
	return cmd
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// safeState puts every actuator into its safe state by a process of its own.
func (m *machine) safeState() {
	cmd := m.command(m.options.SafeState...)
	if err := cmd.Start(); err != nil {
		m.logf("safe state: %v", err)
		return
	}
	timer := time.AfterFunc(stopWithin, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		m.logf("safe state: %v", err)
	}
}
