package instance_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sett/lxd/container/fake"
	"sett/lxd/db/dbtest"
	"sett/lxd/host/idmap"
	"sett/lxd/instance"
	"sett/shared/errs"
)

// unmountable is a host whose file systems take no idmapped mounts. It notes the shifts.
type unmountable struct {
	ids
	err  error
	done []string
}

func (u *unmountable) Mountable(context.Context, string) bool { return false }
func (u *unmountable) Shift(_ context.Context, path string, from, to idmap.Map) error {
	u.done = append(u.done, filepath.Base(path)+" from "+from.String()+" to "+to.String())
	return u.err
}

func shifting(t *testing.T) (*world, *unmountable, string) {
	t.Helper()
	w, u := setup(t), &unmountable{}
	w.ids = u
	w.s = w.service()
	w.ok(w.create("c1"))
	m, err := u.Map()
	w.ok(err)
	return w, u, m.String()
}

func (w *world) disk(want string) {
	w.t.Helper()
	c := w.load("c1").Config
	if c["volatile.last_state.idmap"] != want || strings.HasPrefix(c["volatile.sett_pending"], "shift") {
		w.t.Errorf("the ids on disk are noted as %s, pending %q; want %s", c["volatile.last_state.idmap"], c["volatile.sett_pending"], want)
	}
	if _, err := os.Lstat(filepath.Join(w.pools.dir, "c1", ".shifted")); !os.IsNotExist(err) {
		w.t.Errorf("the sign of a shift: %v", err)
	}
}

func TestIdsAreChangedInACopy(t *testing.T) {
	t.Parallel()
	w, u, m := shifting(t)
	boom := errs.Internal("boom")
	u.err = boom
	if err := w.start("c1"); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	w.disk("[]")
	u.err, w.pools.fail["alter"] = nil, boom
	if err := w.start("c1"); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	w.disk("[]")
	u.done = nil
	// What an archive has brought is in nobody's way.
	w.ok(os.MkdirAll(filepath.Join(w.pools.dir, "c1", ".shifted", "x"), 0o700))
	w.ok(w.start("c1"))
	w.disk(m)
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.start("c1"))
	if !slices.Equal(u.done, []string{"rootfs from [] to " + m}) {
		t.Errorf("shifts: %v", u.done)
	}
}

// TestNoFilesAreReachedThatAShiftReplaces: who asked for them before it and gets there after it
// would write into what goes.
func TestNoFilesAreReachedThatAShiftReplaces(t *testing.T) {
	t.Parallel()
	w, _, _ := shifting(t)
	i := w.load("c1")
	reached, release := w.engine.Hold(fake.Files)
	result := make(chan error, 1)
	go func() {
		_, err := w.s.OpenFiles(t.Context(), i)
		result <- err
	}()
	<-reached
	w.ok(w.start("c1"))
	release()
	if err := <-result; errs.Status(err) != 503 {
		t.Errorf("late: %v", err)
	}
	f, err := w.s.OpenFiles(t.Context(), w.load("c1"))
	w.ok(err)
	f.Kill()
}

// TestAKilledShiftIsNoticed: the content has changed or not, and the note follows it.
func TestAKilledShiftIsNoticed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, on string
		changed  bool
	}{{"before the exchange", "", false}, {"after it", "attempt", true}, {"after an earlier one", "another", false}} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			w, u, m := shifting(t)
			dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', ? FROM instances`, "shift of ids attempt "+m)
			if c.on != "" {
				w.ok(os.WriteFile(filepath.Join(w.pools.dir, "c1", ".shifted"), []byte(c.on), 0o400))
			}
			w.s = w.service()
			w.ok(w.s.Recover(t.Context()))
			want, shifts := "[]", 1
			if c.changed {
				want, shifts = m, 0
			}
			w.disk(want)
			w.ok(w.start("c1"))
			w.disk(m)
			if len(u.done) != shifts {
				t.Errorf("shifts: %v", u.done)
			}
		})
	}
}

// TestNoIdsChangeUnderABackup: a pool that cannot show a volume as it was has its files
// read one by one.
func TestNoIdsChangeUnderABackup(t *testing.T) {
	t.Parallel()
	w, u, _ := shifting(t)
	w.ok(os.WriteFile(filepath.Join(w.pools.dir, "c1", "big"), make([]byte, 4<<20), 0o600))
	asked := false
	_, err := w.backup(instance.NewBackup{Compression: "none", Progress: func(int64) {
		if asked {
			return
		}
		asked = true
		if err := w.start("c1"); err == nil || !strings.Contains(err.Error(), "a backup of it is being made") {
			t.Errorf("got %v", err)
		}
	}})
	w.ok(err)
	if !asked || len(u.done) > 0 {
		t.Errorf("asked %v, shifts: %v", asked, u.done)
	}
	w.ok(w.start("c1"))
}
