package container

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ReadConsoleLog reads what a container has printed on its console, as kept in the
// Spec's ConsoleLog: the last size bytes, nothing when it never printed anything. It
// works on dead containers too.
//
// An engine moves a full log aside under a name that ends in ".1" and begins anew,
// so that what is read there comes first.
func ReadConsoleLog(path string, size int64) ([]byte, error) {
	now, err := tail(path, size)
	if err != nil {
		return nil, err
	}
	before, err := tail(path+".1", size-int64(len(now)))
	if err != nil {
		return nil, err
	}
	return append(before, now...), nil
}

// ClearConsoleLog empties a console's log.
func ClearConsoleLog(path string) error {
	var all []error
	for _, p := range []string{path, path + ".1"} {
		f, err := openLog(p, os.O_WRONLY)
		if f == nil {
			all = append(all, err)
			continue
		}
		all = append(all, f.Truncate(0), f.Close())
	}
	return errors.Join(all...)
}

// openLog opens a regular file, or returns nil when there is none.
func openLog(path string, flags int) (*os.File, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(filepath.Base(path), flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func tail(path string, size int64) ([]byte, error) {
	f, err := openLog(path, os.O_RDONLY)
	if f == nil || size <= 0 {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, fi.Size()-size), size))
}
