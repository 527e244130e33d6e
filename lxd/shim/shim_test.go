package shim

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Whoever gets hold of the copy, a guest's root among them, can read and run it and
// change nothing of it.
func TestNobodyChangesTheCopy(t *testing.T) {
	content := bytes.Repeat([]byte("#!/bin/true\n"), 4096)
	path := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })

	f, err := os.OpenFile(s.Exe(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	mapped, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mapped) }()
	for what, try := range map[string]func() error{
		"a write":            func() error { _, err := f.WriteAt([]byte("x"), 0); return err },
		"a write at its end": func() error { _, err := f.WriteAt([]byte("x"), int64(len(content))); return err },
		"making it shorter":  func() error { return f.Truncate(1) },
		"making it longer":   func() error { return f.Truncate(1 << 20) },
		"a hole":             func() error { return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096) },
		"a mapping to write to": func() error {
			_, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			return err
		},
		"write access to a mapping": func() error {
			return unix.Mprotect(mapped, unix.PROT_READ|unix.PROT_WRITE)
		},
		"fewer seals": func() error { _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, 0); return err },
	} {
		if err := try(); err == nil {
			t.Errorf("%s is allowed", what)
		}
	}
	if got, err := os.ReadFile(s.Exe()); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the copy is another: %d bytes, %v", len(got), err)
	}
}
