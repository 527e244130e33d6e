//go:build system

package dnsmasq

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGuestPosesAsServer has a process look like the server of a folder in all that a
// guest can choose, and in its number.
func TestGuestPosesAsServer(t *testing.T) {
	t.Parallel()
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(sh)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		flags uintptr
		found bool
	}{{"in our namespace", 0, true}, {"in one of its own", unix.CLONE_NEWPID, false}} {
		dir := t.TempDir()
		exe := filepath.Join(dir, program)
		if err := os.WriteFile(exe, b, 0o700); err != nil {
			t.Fatal(err)
		}
		// What comes after the script is for the script, which waits for the end of its input.
		cmd := exec.CommandContext(t.Context(), exe, "-c", "read x", leaseArg(dir))
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: c.flags}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, pidName), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
			t.Fatal(err)
		}
		p := find(dir, nil) // the child may not have begun the program yet, but Start waits for that
		if (p != nil) != c.found {
			t.Errorf("%s: found %v", c.name, p != nil)
		}
		if p != nil {
			p.Close()
		}
		_ = in.Close()
		_ = cmd.Wait()
	}
}
