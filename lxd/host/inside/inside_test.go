package inside_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/host/inside"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *inside.Root {
	t.Helper()
	r, err := inside.Open(dir)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func file(s string) inside.File {
	return inside.File{Data: []byte(s), UID: os.Getuid(), GID: os.Getgid(), Mode: 0o644}
}

func TestPutStaysBelowTheRoot(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	outside, root := filepath.Join(top, "outside"), filepath.Join(top, "root")
	must(t, os.MkdirAll(outside, 0o755))
	must(t, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	secret := filepath.Join(outside, "secret")
	must(t, os.WriteFile(secret, []byte("secret"), 0o644))
	r := open(t, root)

	// A link at the end, a folder that leads out, and dots.
	must(t, os.Symlink(secret, filepath.Join(root, "etc/hostname")))
	must(t, r.Put("/etc/hostname", file("c1")))
	if got := read(t, filepath.Join(root, "etc/hostname")); got != "c1" {
		t.Errorf("the link was not replaced: %q", got)
	}
	must(t, os.Symlink(outside, filepath.Join(root, "out")))
	if err := r.Put("/out/secret", file("x")); err == nil {
		t.Error("a link to a folder outside was followed, or the guest's own was made up")
	}
	must(t, os.Symlink("../../../outside", filepath.Join(root, "up")))
	_ = r.Put("/up/secret", file("x"))
	must(t, r.Put("../../outside/secret", file("mine")))
	if got := read(t, filepath.Join(root, "outside/secret")); got != "mine" {
		t.Errorf("dots lead to %q", got)
	}
	if got := read(t, secret); got != "secret" {
		t.Fatalf("the host was written to: %q", got)
	}
	if ents, _ := os.ReadDir(outside); len(ents) != 1 {
		t.Errorf("something was made outside: %v", ents)
	}
}

func TestPutFollowsTheGuestsOwnLinks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "run/x"), 0o755))
	must(t, os.Mkdir(filepath.Join(root, "var"), 0o755))
	must(t, os.Symlink("/run", filepath.Join(root, "var/run")))
	r := open(t, root)
	must(t, r.Put("/var/run/x/a/b/c", file("deep")))
	if got := read(t, filepath.Join(root, "run/x/a/b/c")); got != "deep" {
		t.Errorf("got %q", got)
	}
	ok, err := r.Exists("/var/run/x/a/b/c")
	if err != nil || !ok {
		t.Errorf("Exists: %v %v", ok, err)
	}
	if ok, err = r.Exists("/var/run/y/z"); err != nil || ok {
		t.Errorf("Exists of what is not there: %v %v", ok, err)
	}
}

func TestPutReplacesWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := open(t, root)
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(t, r.Put("/fifo", file("text"))) // would hang if it were opened
	must(t, os.WriteFile(filepath.Join(root, "one"), []byte("old"), 0o640))
	must(t, os.Link(filepath.Join(root, "one"), filepath.Join(root, "two")))
	must(t, r.Put("one", file("new")))
	if got := read(t, filepath.Join(root, "two")); got != "old" {
		t.Errorf("the file's other name changed too: %q", got)
	}
	fi, err := os.Stat(filepath.Join(root, "one"))
	must(t, err)
	if fi.Mode() != 0o640 {
		t.Errorf("mode %v, want that of the old file", fi.Mode())
	}
	must(t, os.Mkdir(filepath.Join(root, "dir"), 0o755))
	if err := r.Put("/dir", file("x")); !errors.Is(err, unix.EISDIR) {
		t.Errorf("a folder: %v", err)
	}
	if err := r.Put("/", file("x")); err == nil {
		t.Error("the root itself was written")
	}
	ents, err := os.ReadDir(root)
	must(t, err)
	if len(ents) != 4 {
		t.Errorf("something is left: %v", ents)
	}
}

func TestReadTakesRegularFilesOnly(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	root := filepath.Join(top, "root")
	must(t, os.MkdirAll(filepath.Join(root, "templates"), 0o755))
	must(t, os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "templates/a.tpl"), []byte("text"), 0o644))
	must(t, os.Symlink("../../secret", filepath.Join(root, "templates/link")))
	must(t, os.Symlink("a.tpl", filepath.Join(root, "templates/near")))
	must(t, os.Symlink("templates", filepath.Join(root, "other")))
	must(t, unix.Mkfifo(filepath.Join(root, "templates/fifo"), 0o600))
	r := open(t, root)
	if b, err := r.Read("templates/a.tpl", 100); err != nil || string(b) != "text" {
		t.Fatalf("%q %v", b, err)
	}
	if _, err := r.Read("templates/a.tpl", 3); !errors.Is(err, inside.ErrTooLarge) {
		t.Errorf("longer than wanted: %v", err)
	}
	for _, name := range []string{"templates/link", "templates/near", "templates/fifo", "templates", "other/a.tpl", "../secret", "/etc/passwd"} {
		if b, err := r.Read(name, 100); err == nil {
			t.Errorf("%s was read: %q", name, b)
		}
	}
	if _, err := r.Read("none", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := r.Sub("other"); err == nil {
		t.Error("Sub followed a link")
	}
	sub, err := r.Sub("templates")
	must(t, err)
	defer sub.Close()
	names, err := sub.Names()
	must(t, err)
	if len(names) != 1 || names[0] != "a.tpl" {
		t.Errorf("names: %v", names)
	}
	for _, name := range []string{"../x", "a/b", "", ".", ".."} {
		if err := sub.Write(name, nil, 0o644); err == nil {
			t.Errorf("%q was written", name)
		}
		if err := sub.Remove(name); err == nil {
			t.Errorf("%q was removed", name)
		}
	}
	must(t, sub.Write("link", []byte("mine"), 0o644))
	if got := read(t, filepath.Join(top, "secret")); got != "secret" {
		t.Fatalf("written through a link: %q", got)
	}
	must(t, sub.Remove("link"))
}
