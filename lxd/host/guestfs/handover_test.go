package guestfs

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlyFilesOfBytesAreTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	at := deviceOf(t, dir)
	for _, c := range []struct {
		path  string
		flags int
		want  bool
	}{
		{dir + "/file", unix.O_RDONLY, true}, {dir + "/file", unix.O_PATH, false},
		{dir + "/pipe", unix.O_RDWR, false}, {dir, unix.O_RDONLY, false}, {"/proc/self/status", unix.O_RDONLY, false}, {"/dev/null", unix.O_RDWR, false},
	} {
		f, err := os.OpenFile(c.path, c.flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		if c.want && !handsOver(f, at) {
			t.Skip("the folder for tests lies on a file system from which nothing is handed over")
		}
		if handsOver(f, at) != c.want {
			t.Errorf("%s with %#x: %t", c.path, c.flags, !c.want)
		}
		_ = f.Close()
	}
}

func deviceOf(t *testing.T, path string) uint64 {
	t.Helper()
	d, err := DeviceOf(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFilesElsewhereAreSent(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/file"
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		t.Fatal(err)
	}
	if got := handsOver(f, deviceOf(t, path)+1); got != (fs.Type == unix.TMPFS_MAGIC) {
		t.Errorf("a file on another device: %t", got)
	}
	fd, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	w := os.NewFile(uintptr(fd), "memory")
	defer w.Close()
	r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if handsOver(w, 0) || !handsOver(r, 0) {
		t.Errorf("memory: written %t, read %t", handsOver(w, 0), handsOver(r, 0))
	}
}

// A file that comes when its connection has been given up is not kept.
func TestFilesThatComeTooLateAreClosed(t *testing.T) {
	t.Parallel()
	open := func() *os.File {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	closed := func(f *os.File) bool { return errors.Is(f.Close(), os.ErrClosed) }
	s := &Socket{}
	first, second, late := open(), open(), open()
	s.put(first)
	s.put(second)
	if !closed(first) {
		t.Error("the file before")
	}
	s.end()
	s.put(late)
	if !closed(second) || !closed(late) || s.taken() != nil {
		t.Error("files after the end")
	}
}
