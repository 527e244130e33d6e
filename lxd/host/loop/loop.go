// Package loop makes block devices of files.
package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	flagAutoClear = 4
	flagDirectIO  = 16
)

// mark is an attribute of files that nobody has called Finish for.
const mark = "trusted.sett.unfinished"

// Create makes a file of a size that takes no room until it is written. It bears a
// mark until Finish, with which it appears: whoever finds a file without one has not
// made it in an attempt that broke off.
func Create(path string, size int64) error {
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return createSlow(path, size)
	}
	if err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if err := prepare(fd, size); err != nil {
		return &os.PathError{Op: "prepare", Path: path, Err: err}
	}
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	return nil
}

// createSlow is for file systems that know no files without a name.
func createSlow(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := prepare(int(f.Fd()), size); err != nil {
		f.Close()
		os.Remove(path)
		return err
	}
	return f.Close()
}

func prepare(fd int, size int64) error {
	if err := unix.Ftruncate(fd, size); err != nil {
		return err
	}
	if err := unix.Fsetxattr(fd, mark, []byte("1"), 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

// Finish takes the mark away.
func Finish(path string) error {
	err := unix.Lremovexattr(path, mark)
	if err == nil || errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return &os.PathError{Op: "unmark", Path: path, Err: err}
}

// Unfinished reports whether a file bears the mark.
func Unfinished(path string) bool {
	n, err := unix.Lgetxattr(path, mark, nil)
	return err == nil && n > 0
}

// Attach gives a file a device. The device lives as long as it is in use: it goes by
// itself when the returned file is closed and nothing is mounted from it, so nothing
// stays when this process is killed. A device that the file has already is used again.
func Attach(ctx context.Context, path string) (*os.File, error) {
	if dev, err := find(path); err != nil {
		return nil, err
	} else if dev != nil {
		return dev, nil
	}
	back, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer back.Close()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer ctl.Close()
	for flags := uint32(flagAutoClear | flagDirectIO); ; {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		c := unix.LoopConfig{Fd: uint32(back.Fd()), Info: unix.LoopInfo64{Flags: flags}}
		copy(c.Info.File_name[:len(c.Info.File_name)-1], path)
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &c)
		if err == nil {
			return dev, nil
		}
		dev.Close()
		switch {
		case errors.Is(err, unix.EINVAL) && flags&flagDirectIO != 0:
			flags &^= flagDirectIO // the file system below cannot
		case errors.Is(err, unix.EBUSY):
			// Somebody took it between the two calls.
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		default:
			return nil, fmt.Errorf("attach %s to a loop device: %w", path, err)
		}
	}
}

// find opens the device that is attached to a file, if there is one.
func find(path string) (*os.File, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	all, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err != nil || strings.TrimSuffix(string(b), "\n") != real {
			continue
		}
		dev := "/dev/" + strings.Split(p, "/")[3]
		f, err := os.OpenFile(dev, os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		// It may have been cleared, and given to another, before it was open.
		if b, err := os.ReadFile(p); err != nil || strings.TrimSuffix(string(b), "\n") != real {
			f.Close()
			continue
		}
		return f, nil
	}
	return nil, nil
}

// Grow tells the device of a file that the file became larger.
func Grow(path string) error {
	dev, err := find(path)
	if err != nil || dev == nil {
		return err
	}
	defer dev.Close()
	return unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_CAPACITY, 0)
}
