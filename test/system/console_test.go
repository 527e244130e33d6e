//go:build system

package system

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// viewer is a client at a terminal of its own.
type viewer struct {
	tty  *os.File // the far side
	end  func() error
	kill func() error

	mu  sync.Mutex
	out bytes.Buffer
}

func (v *viewer) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.out.String()
}

func (v *viewer) read() {
	buf := make([]byte, 4096)
	for {
		n, err := v.tty.Read(buf)
		v.mu.Lock()
		v.out.Write(buf[:n])
		v.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// terminal makes a pty.
func terminal(t *testing.T) (far, near *os.File) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := far.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	cerr := conn.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: 101, Row: 31})
	})
	if err = errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
	near, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return far, near
}

// atTerminal runs the client on a terminal.
func (h *host) atTerminal(args ...string) *viewer {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	h.t.Cleanup(cancel)
	cmd := h.command(ctx, h.client, args...)
	cmd.Env = h.environ()
	far, near := terminal(h.t)
	defer near.Close()
	h.t.Cleanup(func() { _ = far.Close() })
	cmd.Stdin, cmd.Stdout, cmd.Stderr = near, near, near
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	v := &viewer{tty: far, kill: cmd.Process.Kill}
	var wg sync.WaitGroup
	wg.Go(v.read)
	v.end = func() error {
		err := cmd.Wait()
		wg.Wait() // the terminal ends when nobody has it open
		return err
	}
	return v
}

func (h *host) console(name string) *viewer {
	h.t.Helper()
	return h.atTerminal("console", name)
}

func (v *viewer) types(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(v.tty, keys); err != nil {
		t.Fatal(err)
	}
}

// At the console of a real guest: a shell of its own answers, the viewer leaves and
// comes back, other viewers are turned away, and the guest notices nothing.
func TestConsole(t *testing.T) {
	t.Parallel()
	clients(t, func(t *testing.T, client string) {
		h := newHost(t)
		h.client = client
		h.setUp("dir")
		h.launch("c1")
		h.lxc("exec", "c1", "--", "sh", "-c", "setsid -c sh -i </dev/console >/dev/console 2>&1 &")

		v := h.console("c1")
		h.eventually("the console", func() bool { return strings.Contains(v.String(), "To detach") })
		v.types(t, "echo $((6*7))-$(hostname); stty size\n")
		h.eventually("the size of the terminal", func() bool { return strings.Contains(v.String(), "31 101") })
		h.eventually("an answer at the console", func() bool { return strings.Contains(v.String(), "42-c1") })
		second := h.console("c1")
		if err := second.end(); err == nil || !strings.Contains(second.String(), "in use") {
			t.Errorf("a second viewer: %v, %q", err, second.String())
		}
		v.types(t, "\x01")
		<-time.After(200 * time.Millisecond) // LXD's client looks at one key of what comes together
		v.types(t, "q")
		if err := v.end(); err != nil {
			t.Errorf("detach: %v, %q", err, v.String())
		}

		// A viewer that is killed takes nothing with it, and neither does the daemon.
		v = h.console("c1")
		h.eventually("the console", func() bool { return strings.Contains(v.String(), "To detach") })
		v.types(t, "echo $((7*7))-again\n")
		h.eventually("an answer after detaching", func() bool { return strings.Contains(v.String(), "49-again") })
		_ = v.kill()
		_ = v.end()
		pid := h.initPID("c1")
		h.stop(syscall.SIGKILL)
		h.start()
		v = h.console("c1")
		h.eventually("the console", func() bool { return strings.Contains(v.String(), "To detach") })
		v.types(t, "echo $((8*8))-adopted\n")
		h.eventually("an answer after the daemon's restart", func() bool { return strings.Contains(v.String(), "64-adopted") })
		if now := h.initPID("c1"); now != pid {
			t.Errorf("init was %d and is %d", pid, now)
		}

		for _, said := range []string{"Console log:", "42-c1", "49-again", "64-adopted"} {
			if out := h.lxc("console", "c1", "--show-log"); !strings.Contains(out, said) {
				t.Errorf("no %q in the log %q", said, out)
			}
		}
		if st := h.try("console", "c1", "--type", "vga"); st.code == 0 {
			t.Error("a container has a graphical console")
		}
		if code, a := h.request("DELETE", "/1.0/instances/c1/console", nil); code != 200 {
			t.Errorf("clear: %+v", a)
		}
		if out := h.lxc("console", "c1", "--show-log"); strings.Contains(out, "42-c1") {
			t.Errorf("after clearing, the log is %q", out)
		}
		v.types(t, "echo $((9*9))-last\n")
		h.eventually("the last answer", func() bool { return strings.Contains(v.String(), "81-last") })
		h.lxc("stop", "c1", "--force")
		if err := v.end(); err != nil {
			t.Errorf("the guest's end: %v, %q", err, v.String())
		}
		if out := h.lxc("console", "c1", "--show-log"); !strings.Contains(out, "81-last") {
			t.Errorf("after the stop the log is %q", out)
		}
		v = h.console("c1")
		if err := v.end(); err == nil || !strings.Contains(v.String(), "not running") {
			t.Errorf("console of a stopped instance: %v, %q", err, v.String())
		}
		if _, err := os.Stat(filepath.Join(h.lxdDir(), "logs", "c1", "console.log")); err != nil {
			t.Error(err)
		}
		h.lxc("delete", "c1")
	})
}
