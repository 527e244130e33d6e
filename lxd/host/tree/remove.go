package tree

import (
	"context"
	"errors"
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
	fd, err := openDir(unix.AT_FDCWD, path)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	defer unix.Close(fd)
	r := &remover{root: fd}
	for {
		r.moved = false
		if err := r.empty(ctx, fd, 0); err != nil {
			return &os.PathError{Op: "remove", Path: path, Err: err}
		}
		if !r.moved {
			break
		}
	}
	if err := unix.Rmdir(path); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "remove", Path: path, Err: err}
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

func (r *remover) folder(ctx context.Context, parent int, name string, depth int) error {
	err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
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
