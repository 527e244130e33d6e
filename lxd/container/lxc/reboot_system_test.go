//go:build system

package lxc_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sett/lxd/container"
	"sett/lxd/container/containertest"
	"sett/lxd/container/lxc"
	"sett/lxd/host/process"
)

// A guest that rebooted while no daemon watched has left its mark. The next end of
// the container must not be taken for a reboot.
func TestMarkOfAnUnseenRebootIsForgotten(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), containertest.Deadline)
	defer cancel()
	first, err := lxc.New(newShim(t))
	if err != nil {
		t.Fatal(err)
	}
	s := spec(t, unprivileged, true)
	p, err := first.Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	waitReady(t, s)
	init, err := process.Open(p.PID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer init.Close()
	if err := first.Close(); err != nil { // as a daemon that ends
		t.Fatal(err)
	}
	if err := init.Signal(syscall.SIGHUP); err != nil { // init calls reboot
		t.Fatal(err)
	}
	if err := init.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(s.RunDir, "reboot")
	next := newEngine(t)
	for {
		_, serr := os.Stat(mark)
		_, err := next.Find(ctx, s.ID, s.RunDir)
		if serr == nil && errors.Is(err, container.ErrNotRunning) {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("mark: %v, find: %v", serr, err)
		}
	}
	q := start(t, next, s)
	if _, err := os.Stat(mark); err == nil {
		t.Error("the mark is still there")
	}
	if err := q.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if x, err := q.Wait(ctx); err != nil || x.Reboot {
		t.Errorf("exit %+v, %v", x, err)
	}
}
