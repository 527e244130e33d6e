package container_test

import (
	"os"
	"path/filepath"
	"testing"

	"sett/lxd/container"
)

func TestConsoleLogIsReadAcrossItsFiles(t *testing.T) {
	t.Parallel()
	p := filepath.Join(t.TempDir(), "console.log")
	read := func(size int64, want string) {
		t.Helper()
		if b, err := container.ReadConsoleLog(p, size); err != nil || string(b) != want {
			t.Errorf("%d: %q, %v, not %q", size, b, err, want)
		}
	}
	read(10, "")
	if err := os.WriteFile(p+".1", []byte("older"), 0o600); err != nil {
		t.Fatal(err)
	}
	read(10, "older")
	if err := os.WriteFile(p, []byte("newer"), 0o600); err != nil {
		t.Fatal(err)
	}
	read(10, "oldernewer")
	read(7, "ernewer")
	read(3, "wer")
	if err := container.ClearConsoleLog(p); err != nil {
		t.Error(err)
	}
	read(10, "")
	// Nothing is followed to elsewhere.
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(p)
	if err := os.Symlink(secret, p); err != nil {
		t.Fatal(err)
	}
	if b, err := container.ReadConsoleLog(p, 10); err == nil || len(b) > 0 {
		t.Errorf("a link was followed: %q", b)
	}
	if err := container.ClearConsoleLog(p); err == nil {
		t.Error("a link was followed to clear it")
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("%q, %v", b, err)
	}
}
