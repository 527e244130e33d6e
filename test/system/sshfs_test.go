//go:build system

package system

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mounted reports whether something is mounted at a path, also where it does not answer.
func mounted(t *testing.T, path string) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), " "+path+" ")
}

// sshfs runs "lxc file mount" with a folder to mount at. end waits until the command is
// over, and the folder a folder again.
func (h *host) sshfs(client, what, at string) (cmd *exec.Cmd, end func() error) {
	h.t.Helper()
	t := h.t
	cmd = h.command(context.Background(), client, "file", "mount", what, at)
	cmd.Env = h.environ()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	// Signals of the test go to the client alone, as those of a service manager may.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	h.eventually("sshfs to mount", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("lxc file mount %s ended: %v\n%s", what, err, said.String())
		default:
		}
		return mounted(t, at)
	})
	return cmd, func() error {
		t.Helper()
		err := <-ended
		h.eventually("the mount to be gone", func() bool { return !mounted(t, at) })
		return err
	}
}

// TestSSHFSShowsTheGuestsFiles mounts the files of guests by the program that people have
// for it.
func TestSSHFSShowsTheGuestsFiles(t *testing.T) {
	if _, err := exec.LookPath("sshfs"); err != nil {
		t.Skip("sshfs is not installed")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip("FUSE does not work here:", err)
	}
	_ = f.Close()
	h := newHost(t)
	h.setUp("btrfs")
	c := h.name("m")
	h.launch(c)
	h.lxc("exec", c, "--", "sh", "-c", "echo from inside >/root/a")
	at := filepath.Join(h.dir, "mnt")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, client := range fileClients(h) {
		cmd, end := h.sshfs(client, c+"/root", at)
		if b, err := os.ReadFile(filepath.Join(at, "a")); err != nil || string(b) != "from inside\n" {
			t.Errorf("%s client: read %q, %v", name, b, err)
		}
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		if err := os.WriteFile(filepath.Join(at, "b"), big, 0o640); err != nil {
			t.Errorf("%s client: write: %v", name, err)
		}
		if err := os.Rename(filepath.Join(at, "b"), filepath.Join(at, "c")); err != nil {
			t.Errorf("%s client: rename: %v", name, err)
		}
		if out := h.lxc("exec", c, "--", "stat", "-c", "%s %a %u", "/root/c"); out != "1048576 640 0\n" {
			t.Errorf("%s client: the guest sees %q", name, out)
		}
		if b, err := os.ReadFile(filepath.Join(at, "c")); err != nil || !bytes.Equal(b, big) {
			t.Errorf("%s client: read back %d bytes, %v", name, len(b), err)
		}
		if err := os.Remove(filepath.Join(at, "c")); err != nil {
			t.Errorf("%s client: remove: %v", name, err)
		}
		if client != h.bin.lxc() {
			// LXD's dies of the signal, and sshfs of the end of its input.
			_ = cmd.Process.Signal(os.Interrupt)
			_ = end()
			continue
		}
		_ = cmd.Process.Signal(os.Interrupt)
		if err := end(); err != nil {
			t.Errorf("after an interrupt: %v", err)
		}
	}
	// A service manager ends it too, and so does a terminal that is closed.
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		cmd, end := h.sshfs(h.bin.lxc(), c, at)
		_ = cmd.Process.Signal(sig)
		if err := end(); err != nil {
			t.Errorf("after %v: %v", sig, err)
		}
	}
	// With the instance the mount goes, and the command says so.
	_, end := h.sshfs(h.bin.lxc(), c, at)
	h.lxc("stop", "-f", c)
	var exit *exec.ExitError
	if err := end(); !errors.As(err, &exit) {
		t.Errorf("after the stop: %v", err)
	}
	// A stopped instance has files as well, and is not kept from going.
	cmd, end := h.sshfs(h.bin.lxc(), c, at)
	if b, err := os.ReadFile(filepath.Join(at, "root/a")); err != nil || string(b) != "from inside\n" {
		t.Errorf("stopped: read %q, %v", b, err)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := end(); err != nil {
		t.Error(err)
	}
	h.lxc("delete", c)
}
