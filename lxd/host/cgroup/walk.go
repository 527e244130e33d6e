package cgroup

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// walk visits a group and all groups below it. A guest makes those: they may lie
// deeper than a path can name and than this process may have files open, and
// they come and go meanwhile. So the way down and up goes from descriptor to
// descriptor, of which one is open at a time; ".." leads back because the kernel
// lets nobody move a group to another parent.
//
// pre is called on the way down with the open folder. post is called on the way
// up, for every group below the first, with its parent and its name. A group that
// has gone is no error.
func walk(ctx context.Context, dir string, pre func(group *os.File) error, post func(parent *os.File, name string) error) error {
	at, err := open(unix.AT_FDCWD, dir)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = at.Close() }()
	var way [][]string // what is left to visit on each level; the first is being visited
	for down := true; ; {
		if err := ctx.Err(); err != nil {
			return err // a guest can make groups as fast as they are visited
		}
		if down {
			if err := pre(at); err != nil && !gone(err) {
				return err
			}
			names, err := below(at)
			if err != nil && !gone(err) {
				return err
			}
			way = append(way, names)
		}
		level := len(way) - 1
		if len(way[level]) > 0 {
			next, err := open(int(at.Fd()), way[level][0])
			if gone(err) {
				way[level], down = way[level][1:], false
				continue
			}
			if err != nil {
				return err
			}
			_ = at.Close()
			at, down = next, true
			continue
		}
		if level == 0 {
			return nil
		}
		up, err := open(int(at.Fd()), "..")
		if err != nil {
			return err
		}
		_ = at.Close()
		at, way, down = up, way[:level], false
		left := way[level-1]
		if err := post(at, left[0]); err != nil && !gone(err) {
			return err
		}
		way[level-1] = left[1:]
	}
}

func open(at int, name string) (*os.File, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "cgroup"), nil
}

// gone is how the kernel answers for a group that has been removed.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }

// below names the groups of a folder.
func below(group *os.File) ([]string, error) {
	entries, err := group.ReadDir(-1)
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// readAt reads a file of an open group.
func readAt(group *os.File, name string) (string, error) {
	fd, err := unix.Openat(int(group.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}

// writeAt writes a file of an open group.
func writeAt(group *os.File, name, value string) error {
	fd, err := unix.Openat(int(group.Fd()), name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}
