package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Guests may make subvolumes inside of theirs. They are found by one search in the
// tree of roots, without looking at a single file; nearly always there is none.

// nested is a subvolume inside of another, by its path from there.
type nested struct {
	id   uint64
	path string
}

func (d Dir) nested() ([]nested, error) {
	id, err := d.ID()
	if err != nil {
		return nil, err
	}
	cs, err := d.Children(id)
	if err != nil {
		return nil, err
	}
	var out []nested
	for _, c := range cs {
		p, err := d.pathOf(id, c.Inode)
		if errors.Is(err, unix.ENOENT) {
			continue // its folder is being removed
		}
		if err != nil {
			return nil, err
		}
		out = append(out, nested{c.ID, p + c.Name})
	}
	return out, nil
}

// HasNested reports whether there are subvolumes inside the subvolume.
func (d Dir) HasNested() (bool, error) {
	id, err := d.ID()
	if err != nil {
		return false, err
	}
	cs, err := d.Children(id)
	return len(cs) > 0, err
}

// beneath opens a folder below d without leaving it and without following links.
func (d Dir) beneath(path string) (Dir, error) {
	fd, err := unix.Openat2(d.FD(), path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return Dir{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return Dir{os.NewFile(uintptr(fd), path)}, nil
}

// CopySubvolume snapshots src and all subvolumes inside as name in the folder dst. If
// it fails part of the copy may be there.
func CopySubvolume(ctx context.Context, dst Dir, name string, src Dir) error {
	in, err := src.nested()
	if err != nil {
		return err
	}
	if err := dst.Snapshot(name, src, false); err != nil {
		return err
	}
	if len(in) == 0 {
		return nil
	}
	top, err := OpenAt(dst.FD(), name)
	if err != nil {
		return err
	}
	defer top.Close()
	for _, n := range in {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := copyNested(ctx, top, src, n); err != nil {
			return fmt.Errorf("copy nested subvolume %s: %w", n.path, err)
		}
	}
	return nil
}

func copyNested(ctx context.Context, top, src Dir, n nested) error {
	child, err := src.beneath(n.path)
	if errors.Is(err, unix.ENOENT) {
		return nil // gone meanwhile
	}
	if err != nil {
		return err
	}
	defer child.Close()
	// The guest may have put something else there.
	if id, err := child.ID(); err != nil || id != n.id {
		return err
	}
	if ok, err := child.IsSubvolume(); err != nil || !ok {
		return err
	}
	holder, base, err := holderOf(top, n.path)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer holder.Close()
	// A snapshot shows an empty folder in place of a subvolume.
	if err := unix.Unlinkat(holder.FD(), base, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return err
	}
	return CopySubvolume(ctx, holder, base, child)
}

func holderOf(top Dir, path string) (Dir, string, error) {
	dir, base := filepath.Split(path)
	if dir = strings.TrimSuffix(dir, "/"); dir == "" {
		dir = "."
	}
	h, err := top.beneath(dir)
	return h, base, err
}

// RemoveSubvolume removes name from the folder with all subvolumes inside. What is
// not there is no error. A guest must have no access any more.
func RemoveSubvolume(ctx context.Context, dir Dir, name string) error {
	d, err := OpenAt(dir.FD(), name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	in, err := d.nested()
	if err != nil {
		return err
	}
	if len(in) > 0 {
		// Entries cannot be removed from what is sealed.
		if err := d.SetReadOnly(false); err != nil {
			return err
		}
	}
	for _, n := range in {
		if err := ctx.Err(); err != nil {
			return err
		}
		holder, base, err := holderOf(d, n.path)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		err = RemoveSubvolume(ctx, holder, base)
		holder.Close()
		if err != nil {
			return err
		}
	}
	return dir.Destroy(name)
}
