package fsmount

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseLine(t *testing.T) {
	t.Parallel()
	m, ok := parse(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`)
	if !ok || m.Target != "/mnt 2" || m.Root != "/mnt1" || m.FSType != "ext3" || m.Source != "/dev/root" || m.Super != "rw,errors=continue" {
		t.Errorf("%+v, %v", m, ok)
	}
	if _, ok := parse("nonsense"); ok {
		t.Error("nonsense was read")
	}
}

func TestRootIsMounted(t *testing.T) {
	t.Parallel()
	if _, ok, err := At("/"); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if _, ok, err := At("/no/such/place"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	f, rest := Flags("noatime,compress=zstd,, ro,user_subvol_rm_allowed")
	if f != unix.MS_NOATIME|unix.MS_RDONLY || rest != "compress=zstd,user_subvol_rm_allowed" {
		t.Errorf("%x %q", f, rest)
	}
}

func TestMountIsFoundThroughALink(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/", link); err != nil {
		t.Fatal(err)
	}
	want, ok, err := At("/proc")
	if err != nil || !ok {
		t.Skip("no proc is mounted here")
	}
	if got, ok, err := At(link + "/proc"); err != nil || !ok || got != want {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
}
