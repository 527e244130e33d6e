//go:build system

package lxc_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/container"
	"sett/lxd/container/lxc"
	"sett/shared/errs"
)

// A guest's root that cannot get to its files is told which folder keeps it out. To
// its file system it gets wherever that lies: the folders of volumes are private.
func TestClosedFolderIsNamed(t *testing.T) {
	t.Parallel()
	for name, idmapped := range map[string]bool{"idmapped": true, "shifted": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(t, unprivileged, idmapped)
			if err := os.Chmod(filepath.Dir(s.Rootfs.Path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(s.RunDir, 0o700); err != nil {
				t.Fatal(err)
			}
			if p, err := newEngine(t).Start(context.Background(), s); err == nil {
				_ = p.Kill(context.Background())
				t.Fatal("it started")
			} else if !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "chmod o+x "+s.RunDir) {
				t.Errorf("got %v", err)
			}
			left(t, s)
			if err := os.Chmod(s.RunDir, 0o711); err != nil {
				t.Fatal(err)
			}
			p := start(t, newEngine(t), s)
			expect(t, p, "stat -c %u:%g /bin/busybox", "0:0")
			expect(t, p, "touch /bin/new && stat -c %u:%g /bin/new", "0:0")
		})
	}
}

// A container of which it cannot be told whether it runs is neither started again
// nor cleaned up, as long as it has processes.
func TestDoubtIsNotTakenForStopped(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	sh := newShim(t)
	first, err := lxc.New(sh)
	if err != nil {
		t.Fatal(err)
	}
	s := spec(t, unprivileged, true)
	p := start(t, first, s)
	file := filepath.Join(s.RunDir, "state.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{", `{"Keep": 7}`} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		next := newEngine(t) // it knows of the container from its files only
		if q, err := next.Start(ctx, s); err == nil {
			_ = q.Kill(ctx)
			t.Fatalf("%q: started a second time", bad)
		}
		if err := next.Clean(ctx, s.ID, s.RunDir); err == nil {
			t.Errorf("%q: cleaned up while running", bad)
		}
		if _, err := next.Find(ctx, s.ID, s.RunDir); err == nil || errors.Is(err, container.ErrNotRunning) {
			t.Errorf("%q: find: %v", bad, err)
		}
		expect(t, p, "echo alive", "alive")
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newEngine(t).Find(ctx, s.ID, s.RunDir); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("find after its end: %v", err)
	}
	if err := newEngine(t).Clean(ctx, s.ID, s.RunDir); err != nil {
		t.Errorf("clean after its end: %v", err)
	}
	_ = first.Close()
}
