package child

import (
	"os"
	"path/filepath"
	"testing"
)

// What runs in a caller's place runs under no less than the caller's profile.
func TestCallersAreConfined(t *testing.T) {
	t.Parallel()
	for current, want := range map[string]string{
		"": "", "unconfined\n": "", "lxc-x (enforce)\n": "lxc-x",
		"lxc-x_</var/lib/lxd>//&:lxc-x_<var-lib-lxd>:unconfined (mixed)\n": "lxc-x_</var/lib/lxd>//&:lxc-x_<var-lib-lxd>:unconfined",
	} {
		dir := t.TempDir()
		if current != "" {
			file := filepath.Join(dir, "attr/apparmor/current")
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(current), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		c := &caller{dir: root}
		if got, err := c.label(); got != want || err != nil {
			t.Errorf("%q: %q, %v", current, got, err)
		}
		c.close()
	}
}
