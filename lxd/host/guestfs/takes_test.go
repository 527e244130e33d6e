package guestfs

import (
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
	for _, c := range []struct {
		path  string
		flags int
		want  bool
	}{
		{dir + "/file", unix.O_RDONLY, true}, {dir + "/file", unix.O_WRONLY, true}, {dir + "/file", unix.O_PATH, false},
		{dir + "/pipe", unix.O_RDWR, false}, {dir, unix.O_RDONLY, false}, {"/proc/self/status", unix.O_RDONLY, false}, {"/dev/null", unix.O_RDWR, false},
	} {
		f, err := os.OpenFile(c.path, c.flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		if c.want && !handsOver(f) {
			t.Skip("the folder for tests lies on a file system from which nothing is handed over")
		}
		if takes(f) != c.want {
			t.Errorf("%s with %#x: %t", c.path, c.flags, !c.want)
		}
		_ = f.Close()
	}
}
