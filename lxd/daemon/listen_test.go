package daemon

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestSocketsAreMadeBesideOthers: what others make meanwhile has the mode that they ask for.
func TestSocketsAreMadeBesideOthers(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sett") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 300 {
			path := filepath.Join(dir, "s")
			l, err := listenUnix(path, "")
			if err != nil {
				t.Error(err)
				return
			}
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o660 {
				t.Errorf("the socket has mode %v (%v)", fi.Mode(), err)
			}
			_ = l.Close()
		}
	}()
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		default:
		}
		d := filepath.Join(dir, strconv.Itoa(n))
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(d); err != nil || fi.Mode().Perm() != 0o700 {
			t.Fatalf("a folder has mode %v (%v)", fi.Mode(), err)
		}
	}
}
