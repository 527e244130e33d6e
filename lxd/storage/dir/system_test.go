//go:build system

package dir_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/storage/dir"
	"sett/lxd/storage/driver/drivertest"
)

func TestConformanceOnSource(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Options{Kind: dir.Kind{}, Config: map[string]string{"source": t.TempDir()}})
}

func TestConformanceWithSharedBlocks(t *testing.T) {
	t.Parallel()
	image, source := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{"truncate", "-s", "256M", image}, {"mkfs.btrfs", "-q", image}, {"mount", "-o", "loop", image, source}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(source, 0); err != nil {
			t.Error(err)
		}
	})
	drivertest.Run(t, drivertest.Options{Kind: dir.Kind{}, Config: map[string]string{"source": source}})
}
