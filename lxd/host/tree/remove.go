package tree

import (
	"context"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// flatten is the depth from which folders are moved up before they are emptied, so
// that no nesting exhausts our descriptors or our stack.
const flatten = 200

// Remove removes the folder path with all that is below. What is not there is no
// error. It does not leave the file system: a folder on which something is mounted
// makes it fail.
func Remove(ctx context.Context, path string) error {
	if err := removeAt(ctx, unix.AT_FDCWD, path); err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// removeAt is Remove for a name in an open folder.
func removeAt(ctx context.Context, dir int, name string) error {
	fd, err := openDir(dir, name)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r := &remover{root: fd}
	for {
		r.moved = false
		if err := r.empty(ctx, fd, 0); err != nil {
			return err
		}
		if !r.moved {
			break
		}
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != unix.ENOENT {
		return err
	}
	return nil
}

type remover struct {
	root  int
	n     int
	moved bool
}

func (r *remover) empty(ctx context.Context, fd, depth int) error {
	names, err := readNames(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := unix.Unlinkat(fd, name, 0)
		if err == unix.EPERM && unlock(fd, name) {
			err = unix.Unlinkat(fd, name, 0)
		}
		if err == nil || err == unix.ENOENT {
			continue
		}
		if err != unix.EISDIR && err != unix.EPERM {
			return err
		}
		if err := r.folder(ctx, fd, name, depth); err != nil {
			return err
		}
	}
	return nil
}

// unlock takes the flags "immutable" and "append only", which a privileged guest can
// set, from a file or folder and from the folder that it is in.
func unlock(dir int, name string) bool {
	// Devices are not opened: that alone may do something.
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if kind := st.Mode & unix.S_IFMT; err != nil || kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return clearFlags(dir)
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return clearFlags(dir)
	}
	defer unix.Close(fd)
	child := clearFlags(fd)
	return clearFlags(dir) || child
}

func clearFlags(fd int) bool {
	const locked = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND // the same bits as FS_IMMUTABLE_FL, FS_APPEND_FL
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&locked == 0 {
		return false
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^locked)) == nil
}

func (r *remover) folder(ctx context.Context, parent int, name string, depth int) error {
	err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if err == unix.EPERM && unlock(parent, name) {
		err = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	}
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.ENOTEMPTY {
		if err == unix.EACCES || err == unix.EPERM {
			return &os.PathError{Op: "rmdir", Path: name, Err: err}
		}
		return err
	}
	if depth >= flatten {
		for {
			r.n++
			up := ".deep-" + strconv.Itoa(r.n)
			err := unix.Renameat2(parent, name, r.root, up, unix.RENAME_NOREPLACE)
			if err != unix.EEXIST {
				r.moved = true
				return err
			}
		}
	}
	fd, err := openDir(parent, name)
	if err == unix.EACCES {
		// Without root's powers (tests) a folder's mode can keep us out.
		_ = unix.Fchmodat(parent, name, 0o700, 0)
		fd, err = openDir(parent, name)
	}
	if err != nil {
		return err
	}
	err = r.empty(ctx, fd, depth+1)
	unix.Close(fd)
	if err != nil {
		return err
	}
	err = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if err == unix.ENOENT {
		return nil
	}
	return err
}
