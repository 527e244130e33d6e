//go:build system

package child_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/host/unpack"
	"sett/lxd/host/unpack/child"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-probe" {
		os.Exit(child.Probe())
	}
	os.Exit(m.Run())
}

func TestJailHasNoPowers(t *testing.T) {
	t.Parallel()
	dir, empty := t.TempDir(), filepath.Join(t.TempDir(), "empty.tar")
	if err := os.WriteFile(empty, append(make([]byte, 257), "ustar"...), 0o600); err != nil {
		t.Fatal(err)
	}
	jail := unpack.Jail{Command: []string{"/proc/self/exe", "-probe"}}
	if err := jail.File(t.Context(), empty, dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "seen"))
	if err != nil {
		t.Fatal(err)
	}
	out := string(b)
	for _, want := range []string{
		"capabilities 8800001b/8800001b/8800001b", // chown, dac_override, fowner, fsetid, mknod, setfcap
		"no new privileges 1", "root lib", "root target", "write to programs: read-only file system",
		"interfaces lo", "processes 1", "keys of root: operation not permitted",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("not there: %s", want)
		}
	}
	if strings.Contains(out, "is open") {
		t.Error("the first process shows")
	}
	if strings.Contains(out, "root home") || strings.Contains(out, "root var") {
		t.Error("the host shows")
	}
	if t.Failed() {
		t.Log(out)
	}
}
