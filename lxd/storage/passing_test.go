package storage_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/storage"
	"sett/shared/errs"
)

// passing makes a volume on the first of two members, and one of it on the second that is
// not taken over.
func passing(t *testing.T) (*db.DB, *node, *node) {
	t.Helper()
	d, ns := nodes(t, 2)
	define(ns)
	ns[0].want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	ctx := t.Context()
	a, b := ns[0], ns[1]
	for _, err := range []error{
		a.CreateVolume(ctx, vol("a"), 0, unpack),
		b.FillVolume(ctx, vol("a"), storage.Bringing{Snapshots: brought(), Passing: true, Note: `{"x": 1}`}, fillAll),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return d, a, b
}

// is demands that a member has the volume on disk, or nothing of it.
func (x *node) is(there bool) {
	x.t.Helper()
	for _, p := range []string{"containers/a", "storage-pools/p/containers/a"} {
		if _, err := os.Lstat(filepath.Join(x.dir, p)); (err == nil) != there {
			x.t.Errorf("%s of %s: %v", p, x.Here.Name(), err)
		}
	}
}

func TestAVolumeIsTakenOver(t *testing.T) {
	t.Parallel()
	_, a, b := passing(t)
	ctx := t.Context()
	b.want(200, `"config":{},"description":"","name":"a"`, "GET", "/1.0/storage-pools/p/volumes/container/a?target=m2", "")
	boom := errors.New("boom")
	// What fails with it changes nothing.
	if err := b.TakeOver(ctx, vol("a"), vol("a"), a.Here.ID(), func(context.Context, *db.Tx) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if ls, err := a.Left(ctx); err != nil || len(ls) != 0 {
		t.Errorf("left are %v, %v", ls, err)
	}
	if err := b.TakeOver(ctx, vol("a"), vol("a"), a.Here.ID(), nothing); err != nil {
		t.Fatal(err)
	}
	if err := b.TakeOver(ctx, vol("a"), vol("a"), a.Here.ID(), nothing); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a second time: %v", err)
	}
	if given, err := b.GiveUp(ctx, vol("a")); given || err != nil {
		t.Errorf("what was taken over was given up: %v, %v", given, err)
	}
	if err := b.DropLeft(ctx, vol("a")); err != nil {
		t.Error(err)
	}
	b.is(true)
	if ls, err := b.Left(ctx); err != nil || len(ls) != 0 {
		t.Errorf("left are %v, %v", ls, err)
	}
	ls, err := a.Left(ctx)
	if err != nil || len(ls) != 1 || ls[0].Volume != vol("a") || ls[0].Note != "" {
		t.Fatalf("left are %v, %v", ls, err)
	}
	// It may come back at once.
	if err := a.DropLeft(ctx, vol("a")); err != nil {
		t.Error(err)
	}
	a.is(false)
	b.is(true)
}

func TestAVolumeThatCameIsGivenUp(t *testing.T) {
	t.Parallel()
	for what, give := range map[string]func(context.Context, *node) error{
		"at once": func(ctx context.Context, b *node) error {
			given, err := b.GiveUp(ctx, vol("a"))
			if !given {
				err = errors.Join(err, errors.New("it was not"))
			}
			return err
		},
		"at the next attempt": func(ctx context.Context, b *node) error {
			// The database could not be asked when the first one failed.
			return errors.Join(b.DropLeft(ctx, vol("a")),
				b.FillVolume(ctx, vol("a"), storage.Bringing{Snapshots: brought(), Passing: true}, fillAll), b.DropLeft(ctx, vol("a")))
		},
		"at the next start": func(ctx context.Context, b *node) error {
			ls, err := b.Left(ctx)
			if len(ls) != 1 || ls[0].Note != `{"x": 1}` {
				err = errors.Join(err, errors.New("the note is lost"))
			}
			for _, l := range ls {
				// Who comes late finds that it has been decided.
				if e := b.TakeOver(ctx, l.Volume, vol("a"), 1, nothing); !errs.Is(e, errs.KindConflict) {
					err = errors.Join(err, errors.New("it was taken over"))
				}
				err = errors.Join(err, b.DropLeft(ctx, l.Volume))
			}
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			_, a, b := passing(t)
			if err := give(t.Context(), b); err != nil {
				t.Error(err)
			}
			a.is(true)
			b.is(false)
			if err := a.DropLeft(t.Context(), vol("a")); err != nil {
				t.Error(err)
			}
			a.is(true)
		})
	}
}

// TestAVolumeThatWasLeftIsInNobodysWay: its removal failed after it was taken over, and
// another one gets its name.
func TestAVolumeThatWasLeftIsInNobodysWay(t *testing.T) {
	t.Parallel()
	_, a, b := passing(t)
	ctx := t.Context()
	if err := a.CreateVolume(ctx, vol("a"), 0, unpack); !errs.Is(err, errs.KindConflict) {
		t.Errorf("there is one: %v", err)
	}
	if err := b.TakeOver(ctx, vol("a"), vol("a"), a.Here.ID(), nothing); err != nil {
		t.Fatal(err)
	}
	if err := a.CreateVolume(ctx, vol("a"), 0, unpack); err != nil {
		t.Error(err)
	}
	a.is(true)
	b.is(true)
	if ls, err := a.Left(ctx); err != nil || len(ls) != 0 {
		t.Errorf("left are %v, %v", ls, err)
	}
}

// TestAVolumeThatDoesNotComeWholeLeavesNothing: its record goes with it.
func TestAVolumeThatDoesNotComeWholeLeavesNothing(t *testing.T) {
	t.Parallel()
	d, a, b := passing(t)
	ctx := t.Context()
	if _, err := b.GiveUp(ctx, vol("a")); err != nil {
		t.Fatal(err)
	}
	err := b.FillVolume(ctx, vol("a"), storage.Bringing{Snapshots: brought(), Passing: true}, func(context.Context, []string) error { return errors.New("boom") })
	if err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
	b.is(false)
	dbtest.Exec(t, d, `CREATE TRIGGER boom BEFORE INSERT ON storage_volumes_config BEGIN SELECT RAISE(ABORT, 'boom'); END`)
	if err := b.FillVolume(ctx, vol("a"), storage.Bringing{Passing: true}, fillAll); err == nil {
		t.Error("a volume without a mark")
	}
	if ls, err := b.Left(ctx); err != nil || len(ls) != 0 {
		t.Errorf("left are %v, %v", ls, err)
	}
	a.is(true)
}
