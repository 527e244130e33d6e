//go:build system

package idmap_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sett/lxd/host/idmap"
)

func TestBlockedNamesTheFolder(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	for d := top; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	private := filepath.Join(top, "private")
	in := filepath.Join(private, "in", "deep")
	if err := os.MkdirAll(in, 0o711); err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		if got, err := idmap.Blocked(in, 1000000, 1000000); err != nil || got != want {
			t.Errorf("blocked by %q, %v, not %q", got, err, want)
		}
		// We are ourselves again.
		if _, err := os.ReadDir(in); err != nil {
			t.Error(err)
		}
	}
	check("")
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	check(private)
	if err := os.Chmod(in, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(private, 0o711); err != nil {
		t.Fatal(err)
	}
	check(in)
	if err := os.Chmod(in, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("setfacl", "-m", "u:1000000:x", private).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check("")
}
