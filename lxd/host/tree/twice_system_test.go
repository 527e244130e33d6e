//go:build system

package tree_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/host/tree"
)

// What is made anew in a folder that has been copied must not get its group and its ACL from there.
func TestNothingIsInheritedWhileATreeIsCopiedAgain(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	p := func(n string) string { return filepath.Join(src, n) }
	must(t, os.MkdirAll(p("journal/sub"), 0o755), os.WriteFile(p("journal/f"), []byte("old"), 0o640), unix.Mknod(p("journal/null"), unix.S_IFCHR|0o640, 0x103))
	for _, c := range [][]string{{"setfacl", "-m", "d:u:1234:rwx", p("journal")}, {"chown", "0:43", p("journal")}, {"chmod", "2755", p("journal")}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	dst := between(t, src, tree.Options{}, func(string) {
		must(t, os.WriteFile(p("journal/f"), []byte("new"), 0o640), os.Chown(p("journal/f"), 12, 34), os.Lchown(p("journal/null"), 5, 6),
			os.RemoveAll(p("journal/sub")), os.Mkdir(p("made"), 0o700), os.WriteFile(p("made/g"), nil, 0o600),
			os.Rename(p("made"), p("journal/made")), os.Symlink("f", p("link")), os.Rename(p("link"), p("journal/link")))
		if out, err := exec.Command("setcap", "cap_net_raw+ep", p("journal/f")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
	same(t, dst, src)
}
