package instance

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"sett/lxd/host/idmap"
	"sett/shared/errs"
)

// A shift of ids that is cut off cannot be gone on with: which files have their new ids
// already, nobody can tell. So it is done to a copy, which takes the place of the content
// when it is whole. Content and note cannot change as one: a mark names the attempt, and
// the copy bears the name of it too, so that whoever finds the mark knows what is on disk.

// shiftFile lies beside the root file system while a mark stands.
const shiftFile = ".shifted"

// shift changes the ids of the files of an instance that does not run from one map to
// another, and notes it.
func (s *Service) shift(ctx context.Context, i *Instance, from, to idmap.Map) error {
	if err := s.unread(i, itself); err != nil { // what is read file by file would have ids of both kinds
		return err
	}
	v, root, err := volume(i)
	if err != nil {
		return err
	}
	size, err := rootSize(root)
	if err != nil {
		return err
	}
	l := s.liveOf(i.ID)
	defer l.shutFiles("")()
	l.keeping.Lock()
	defer l.keeping.Unlock()
	attempt := uuid.NewString()
	if err := s.patchConfig(ctx, i, map[string]string{volPending: pendingShift + attempt + " " + to.String()}); err != nil {
		return err
	}
	err = s.Storage.Alter(ctx, v, size, func(ctx context.Context, dir string) error {
		if err := s.IDs.Shift(ctx, filepath.Join(dir, "rootfs"), from, to); err != nil {
			return err
		}
		return writeNew(dir, shiftFile, attempt)
	})
	ctx, cancel := s.cleanup()
	defer cancel()
	return errors.Join(err, s.settleShift(ctx, i))
}

// settleShift notes which ids the files have, whether the shift of the mark has come to its
// end or not.
func (s *Service) settleShift(ctx context.Context, i *Instance) error {
	attempt, to, _ := strings.Cut(strings.TrimPrefix(i.Config[volPending], pendingShift), " ")
	dir, release, err := s.Volume(ctx, i)
	if errs.Is(err, errs.KindNotFound) { // who deletes the instance need not know
		return s.patchConfig(ctx, i, map[string]string{volPending: ""})
	}
	if err != nil {
		return err
	}
	defer release()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	changes := map[string]string{volPending: ""}
	// What an archive has brought under this name may be anything.
	if fi, err := root.Lstat(shiftFile); err == nil && fi.Mode().IsRegular() && fi.Size() == int64(len(attempt)) {
		b, err := root.ReadFile(shiftFile)
		if err != nil {
			return err
		}
		if string(b) == attempt {
			changes[volDiskMap] = to
		}
	}
	if err := s.patchConfig(ctx, i, changes); err != nil {
		return err
	}
	return root.RemoveAll(shiftFile)
}

// writeNew writes a file in place of whatever has its name.
func writeNew(dir, name, text string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.RemoveAll(name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
