//go:build system

package lxc_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sett/lxd/container"
	"sett/lxd/container/containertest"
	"sett/lxd/container/lxc"
	"sett/lxd/shim"
)

// victim is the daemon that dies: it starts the container of a file and waits.
func victim(specFile string) int {
	var s container.Spec
	b, err := os.ReadFile(specFile)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return 2
	}
	sh, err := shim.New(os.Getenv("LXD_SHIM"))
	if err != nil {
		return 2
	}
	e, err := lxc.New(sh)
	if err != nil {
		return 2
	}
	os.Stdout.WriteString("go\n")
	p, err := e.Start(context.Background(), s)
	if err != nil {
		return 3
	}
	_, _ = p.Wait(context.Background())
	return 0
}

// A daemon that is killed at any moment of a start leaves a container that the
// next daemon finds whole, or nothing that it cannot clean up.
func TestKilledDaemonLeavesAWholeContainerOrNone(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for delay := time.Duration(0); delay <= 48*time.Millisecond; delay += 3 * time.Millisecond {
		s := spec(t, unprivileged, true)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "spec.json")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "SETT_TEST_VICTIM="+file, "LXD_SHIM="+bin)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		timer := time.NewTimer(delay)
		<-timer.C
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		ctx, cancel := context.WithTimeout(context.Background(), containertest.Deadline)
		p, err := e.Find(ctx, s.ID, s.RunDir)
		switch {
		case err == nil:
			found++
			expect(t, p, "stat -c %u /bin/busybox", "0")
			if err := p.Kill(ctx); err != nil {
				t.Errorf("after %v: kill: %v", delay, err)
			}
		case errors.Is(err, container.ErrNotRunning):
			if err := e.Clean(ctx, s.ID, s.RunDir); err != nil {
				t.Errorf("after %v: clean: %v", delay, err)
			}
		default:
			t.Errorf("after %v: find: %v", delay, err)
		}
		cancel()
		left(t, s)
	}
	t.Logf("%d of 17 were found running", found)
}
