package module_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/host/module"
)

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := module.Parse(" overlay,br_netfilter, ip6-tables ,")
	if err != nil || strings.Join(got, " ") != "overlay br_netfilter ip6-tables" {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"a b", "--remove", "../x", "a;b", strings.Repeat("a", 65)} {
		if _, err := module.Parse(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestNeed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("sys/module/br_netfilter/x", "", 0o644)
	write("lib/modules/"+unix.ByteSliceToString(u.Release[:])+"/modules.builtin", "kernel/fs/fuse/fuse.ko\nkernel/x/some-thing.ko\n", 0o644)
	k := module.Kernel{Root: root, Load: "/bin/false"}
	if err := k.Need(t.Context(), []string{"br-netfilter", "fuse", "some_thing"}); err != nil {
		t.Error(err)
	}
	if err := k.Need(t.Context(), []string{"fuse", "zfs"}); err == nil || !strings.Contains(err.Error(), "cannot load modules") {
		t.Errorf("a kernel without modules: %v", err)
	}
	write("proc/modules", "", 0o644)
	if err := k.Need(t.Context(), []string{"zfs"}); err == nil || !strings.Contains(err.Error(), `"zfs" cannot be loaded`) {
		t.Errorf("a module that is not there: %v", err)
	}
	k.Load = "/bin/true"
	if err := k.Need(t.Context(), []string{"zfs"}); err != nil {
		t.Error(err)
	}
}
