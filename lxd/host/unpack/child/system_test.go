//go:build system

package child_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"sett/lxd/host/unpack"
	"sett/lxd/host/unpack/child"
	"sett/shared/archive"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-probe" {
		os.Exit(child.Probe())
	}
	os.Exit(m.Run())
}

func TestJailHasNoPowers(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	jail := unpack.Jail{Command: []string{"/proc/self/exe", "-probe"}}
	if err := jail.Pack(t.Context(), &out, archive.Tar, t.TempDir(), "."); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"capabilities 8800001b/8800001b/8800001b", // chown, dac_override, fowner, fsetid, mknod, setfcap
		"no new privileges 1", "root lib", "root target", "write to target: read-only file system",
		"interfaces lo", "processes 1", "keys of root: operation not permitted",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not there: %s", want)
		}
	}
	if strings.Contains(out.String(), "is open") {
		t.Error("the first process shows")
	}
	if strings.Contains(out.String(), "root home") || strings.Contains(out.String(), "root var") {
		t.Error("the host shows")
	}
	if t.Failed() {
		t.Log(out.String())
	}
}
