package btrfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Guests may make subvolumes inside of theirs. They are found by one search in the
// tree of roots, without looking at a single file; nearly always there is none.
//
// Those that are there lie as deep as the guest likes, deeper than a path can name
// and than this process may have files open, and the guest may move them while they
// are looked at. So nothing here goes by path: a folder is opened by the number of
// its subvolume and its own, one at a time.

// nested is a subvolume inside of another.
type nested struct {
	id     uint64
	parent uint64 // the subvolume that it lies in
	inode  uint64 // of the folder there
	name   string
}

// nested lists all subvolumes inside, in any depth; each comes after the one that it
// lies in.
func (d Dir) nested(ctx context.Context) ([]nested, error) {
	top, err := d.ID()
	if err != nil {
		return nil, err
	}
	var out []nested
	for todo := []uint64{top}; len(todo) > 0; todo = todo[1:] {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		cs, err := d.Children(todo[0])
		if err != nil {
			return nil, err
		}
		for _, c := range cs {
			out = append(out, nested{c.ID, todo[0], c.Inode, c.Name})
			todo = append(todo, c.ID)
		}
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

const (
	typeInodeItem = 1
	fileID        = 0x4d // FILEID_BTRFS_WITHOUT_PARENT
)

// inode opens a folder of the file system by its numbers.
func (d Dir) inode(subvol, inode uint64) (Dir, error) {
	// A handle is good for one life of a number, the generation.
	var generation uint64
	found := false
	err := d.one(subvol, inode, typeInodeItem, 0, func(i item) {
		if len(i.data) >= 8 {
			generation, found = binary.LittleEndian.Uint64(i.data), true
		}
	})
	if err == nil && !found {
		err = unix.ENOENT
	}
	if err == nil {
		h := make([]byte, 20) // the beginning of struct btrfs_fid
		binary.NativeEndian.PutUint64(h, inode)
		binary.NativeEndian.PutUint64(h[8:], subvol)
		binary.NativeEndian.PutUint32(h[16:], uint32(generation))
		var fd int
		fd, err = unix.OpenByHandleAt(d.FD(), unix.NewFileHandle(fileID, h), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
		if err == nil {
			return Dir{os.NewFile(uintptr(fd), fmt.Sprintf("folder %d of subvolume %d", inode, subvol))}, nil
		}
	}
	return Dir{}, &os.PathError{Op: "open", Path: fmt.Sprintf("folder %d of subvolume %d", inode, subvol), Err: err}
}

// gone is how the kernel answers for what has been removed.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }

// CopySubvolume snapshots src and all subvolumes inside as name in the folder dst. If
// it fails part of the copy may be there.
func CopySubvolume(ctx context.Context, dst Dir, name string, src Dir) error {
	in, err := src.nested(ctx)
	if err != nil {
		return err
	}
	if err := dst.Snapshot(name, src, false); err != nil {
		return err
	}
	if len(in) == 0 {
		return nil
	}
	copies := map[uint64]uint64{} // subvolume -> its copy
	from, err := src.ID()
	if err != nil {
		return err
	}
	if copies[from], err = idOf(dst, name); err != nil {
		return err
	}
	for _, n := range in {
		if err := ctx.Err(); err != nil {
			return err
		}
		parent, ok := copies[n.parent]
		if !ok {
			continue // went while it was copied
		}
		id, err := copyNested(src, n, parent)
		if gone(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("copy nested subvolume %s: %w", n.name, err)
		}
		copies[n.id] = id
	}
	return nil
}

func idOf(dir Dir, name string) (uint64, error) {
	d, err := OpenAt(dir.FD(), name)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	return d.ID()
}

// copyNested puts a copy of a subvolume into the copy of the one that it lies in.
func copyNested(src Dir, n nested, parent uint64) (uint64, error) {
	child, err := src.inode(n.id, firstFree)
	if err != nil {
		return 0, err
	}
	defer child.Close()
	holder, err := src.inode(parent, n.inode)
	if err != nil {
		return 0, err
	}
	defer holder.Close()
	// A snapshot shows an empty folder in place of a subvolume.
	if err := unix.Unlinkat(holder.FD(), n.name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return 0, err
	}
	if err := holder.Snapshot(n.name, child, false); err != nil {
		return 0, err
	}
	return idOf(holder, n.name)
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
	in, err := d.nested(ctx)
	if err != nil {
		return err
	}
	// The innermost come last and go first.
	for i := len(in) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.destroyNested(in[i]); err != nil && !gone(err) {
			return fmt.Errorf("delete nested subvolume %s: %w", in[i].name, err)
		}
	}
	return dir.Destroy(name)
}

func (d Dir) destroyNested(n nested) error {
	// Entries cannot be removed from what is sealed, and the guest seals too.
	parent, err := d.inode(n.parent, firstFree)
	if err != nil {
		return err
	}
	err = parent.SetReadOnly(false)
	parent.Close()
	if err != nil {
		return err
	}
	holder, err := d.inode(n.parent, n.inode)
	if err != nil {
		return err
	}
	defer holder.Close()
	return holder.Destroy(n.name)
}
