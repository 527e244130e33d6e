package tree_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/host/tree"
)

// exact is more than the kernel's clock for files goes on by at a time.
const exact = 20 * time.Millisecond

// age waits until all that has been made is older than that.
func age() { <-time.After(3 * exact / 2) }

// look tells all that is to be known of a tree, by path.
func look(t *testing.T, root string) map[string]string {
	t.Helper()
	out, first := map[string]string{}, map[uint64]string{}
	must(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st := stat(t, p)
		rel := strings.TrimPrefix(p, root)
		if first[st.Ino] == "" {
			first[st.Ino] = rel
		}
		what := fmt.Sprintf("%o %d:%d %d names, first %q", st.Mode, st.Uid, st.Gid, st.Nlink, first[st.Ino])
		if e.Type() != fs.ModeSymlink {
			what += " " + time.Unix(0, st.Mtim.Nano()).String()
		}
		switch {
		case e.Type().IsRegular():
			b, err := os.ReadFile(p)
			must(t, err)
			what += fmt.Sprintf(" %d bytes %x", len(b), sha256.Sum256(b))
		case e.Type() == fs.ModeSymlink:
			l, err := os.Readlink(p)
			must(t, err)
			what += " to " + l
		}
		buf := make([]byte, 4096)
		if n, err := unix.Llistxattr(p, buf); err == nil {
			for _, k := range strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 }) {
				v := make([]byte, 4096)
				n, err := unix.Lgetxattr(p, k, v)
				must(t, err)
				what += fmt.Sprintf(" %s=%x", k, v[:n])
			}
		}
		out[rel] = what
		return nil
	}))
	return out
}

func same(t *testing.T, dst, src string) {
	t.Helper()
	want, got := look(t, src), look(t, dst)
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if got[p] != want[p] {
			t.Errorf("%q is\n\t%s and not\n\t%s", p, got[p], want[p])
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			t.Errorf("%q is there", p)
		}
	}
}

// between copies a tree and changes it after all has been copied once, when it is about to
// stand still.
func between(t *testing.T, src string, o tree.Options, change func(dst string)) string {
	t.Helper()
	dst, calls, resumed := t.TempDir(), 0, 0
	o.Quiet = func(context.Context) (func(), error) {
		if calls++; calls == 2 {
			change(dst)
		}
		return func() { resumed++ }, nil
	}
	age()
	must(t, tree.CopyTree(t.Context(), dst, src, o, exact))
	if calls != 2 || resumed != 2 {
		t.Errorf("held still %d times, resumed %d times", calls, resumed)
	}
	return dst
}

func TestWhatChangesWhileATreeIsCopied(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	p := func(n string) string { return filepath.Join(src, n) }
	write := func(text string, names ...string) {
		t.Helper()
		for _, n := range names {
			must(t, os.MkdirAll(filepath.Dir(p(n)), 0o755), os.WriteFile(p(n), []byte(text), 0o644))
		}
	}
	then := time.Unix(1e9, 0)
	setTime := func(names ...string) {
		t.Helper()
		for _, n := range names {
			must(t, os.Chtimes(p(n), then, then))
		}
	}
	write("old", "stays", "quiet/deep/stays", "time", "swap/a/f", "dir", "mode", "attr", "gone", "deep/a/b/c", "moved/x/f", "links/c", "links/e")
	write("dlo", "swap/b/f")
	write("one", "x1")
	write("two", "x2")
	setTime("time", "swap/a/f", "swap/b/f", "x1", "x2")
	must(t, os.Symlink("a", p("link")), os.Mkdir(p("file"), 0o755), os.Link(p("links/c"), p("links/d")), os.Link(p("links/e"), p("links/f")),
		os.Mkdir(p("links/sub"), 0o755), os.Link(p("links/e"), p("links/sub/g")), os.Link(p("moved/x/f"), p("other")), unix.Mkfifo(p("pipe"), 0o600))
	write("inside", "file/f")
	attrs := unix.Setxattr(p("attr"), "user.a", []byte("1"), 0) == nil
	if attrs {
		must(t, unix.Setxattr(p("attr"), "user.b", []byte("1"), 0), unix.Setxattr(p("quiet"), "user.a", []byte("1"), 0), unix.Setxattr(p("quiet"), "user.b", []byte("1"), 0))
	}
	var was map[string]uint64
	stays := []string{"quiet/deep/stays", "quiet", "links/d", "deep"}
	dst := between(t, src, tree.Options{}, func(dst string) {
		was = map[string]uint64{}
		for _, n := range stays {
			was[n] = stat(t, filepath.Join(dst, n)).Ino
		}
		// Content, with size and time as they were.
		write("new", "time")
		setTime("time")
		// Files and folders that are equal but for their content change places.
		must(t, unix.Renameat2(unix.AT_FDCWD, p("x1"), unix.AT_FDCWD, p("x2"), unix.RENAME_EXCHANGE),
			unix.Renameat2(unix.AT_FDCWD, p("swap/a"), unix.AT_FDCWD, p("swap/b"), unix.RENAME_EXCHANGE))
		// Kinds.
		must(t, os.Remove(p("dir")), os.Mkdir(p("dir"), 0o700), os.RemoveAll(p("file")), os.Remove(p("link")), os.Symlink("b", p("link")), os.Remove(p("pipe")))
		write("now in a folder", "dir/f")
		write("now a file", "file")
		// What goes, what moves and what comes.
		must(t, os.Remove(p("gone")), os.RemoveAll(p("deep/a/b")), os.Rename(p("moved"), p("elsewhere")), unix.Mkfifo(p("fresh"), 0o640))
		write("fresh", "quiet/more/f", "deep/a/new")
		must(t, os.Chmod(p("mode"), 0o4711))
		// Names of one file: one more, one that becomes a file of its own, one less.
		must(t, os.Link(p("stays"), p("quiet/again")), os.Remove(p("links/sub/g")), os.Link(p("time"), p("links/t")))
		write("its own", "links/own")
		must(t, os.Rename(p("links/own"), p("links/f")))
		if attrs {
			must(t, unix.Removexattr(p("attr"), "user.a"), unix.Setxattr(p("attr"), "user.b", []byte("2"), 0),
				unix.Removexattr(p("quiet"), "user.a"), unix.Setxattr(p("quiet"), "user.b", []byte("2"), 0))
		}
		setTime("swap", "deep/a", "links")
	})
	same(t, dst, src)
	for _, n := range stays {
		if now := stat(t, filepath.Join(dst, n)).Ino; was[n] != now {
			t.Errorf("%s was copied again", n)
		}
	}
}

func TestCopiesOfAllThatStaysAreLeftAlone(t *testing.T) {
	t.Parallel()
	src, old := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(src, "a/b"), 0o755), os.WriteFile(filepath.Join(src, "a/b/f"), []byte("old"), 0o644), os.WriteFile(filepath.Join(src, "a/g"), []byte("old"), 0o644))
	must(t, tree.Copy(t.Context(), old, src))
	then := stat(t, filepath.Join(src, "a/g"))
	var bytes int64
	var mu sync.Mutex
	count := func(n int64) { mu.Lock(); defer mu.Unlock(); bytes += n }
	dst := between(t, src, tree.Options{Like: old, Take: true, Count: count}, func(dst string) {
		// As it was by all that a person can set: the copy before this one has that too.
		must(t, os.WriteFile(filepath.Join(src, "a/g"), []byte("new"), 0o644), os.Chtimes(filepath.Join(src, "a/g"), time.Unix(0, then.Atim.Nano()), time.Unix(0, then.Mtim.Nano())))
	})
	if b, err := os.ReadFile(filepath.Join(dst, "a/g")); err != nil || string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
	if stat(t, filepath.Join(dst, "a/b/f")).Ino != stat(t, filepath.Join(old, "a/b/f")).Ino {
		t.Error("what stayed was copied")
	}
	if b, err := os.ReadFile(filepath.Join(old, "a/g")); err != nil || string(b) != "old" || bytes != 9 {
		t.Errorf("the old copy holds %q, %v; %d bytes", b, err, bytes)
	}
}

// worker changes a tree without end, but for the time that it is held still.
type worker struct {
	root, secret string
	rand         *rand.Rand
	mu           sync.Mutex // held by who holds it still
	quit, done   chan struct{}
	n            int
}

func (w *worker) name() string {
	p := w.root
	for range w.rand.IntN(3) {
		p = filepath.Join(p, fmt.Sprint("d", w.rand.IntN(4)))
	}
	return filepath.Join(p, fmt.Sprint([]string{"f", "d", "l"}[w.rand.IntN(3)], w.rand.IntN(4)))
}

// act does one thing that works or does not.
func (w *worker) act() {
	w.n++
	a, b := w.name(), w.name()
	switch w.rand.IntN(13) {
	case 0, 1, 2:
		if fi, err := os.Lstat(a); err == nil && !fi.Mode().IsRegular() {
			return
		}
		_ = os.WriteFile(a, fmt.Appendf(nil, "%08d", w.n), 0o644)
		_ = os.Chtimes(a, time.Unix(1e9, 0), time.Unix(1e9, 0))
	case 3:
		_ = os.Rename(a, b)
	case 4:
		_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	case 5:
		_ = os.Link(a, b)
	case 6:
		_ = os.Remove(a)
	case 7:
		_ = os.Mkdir(a, 0o755)
	case 8:
		_ = os.Symlink(w.secret, a)
	case 9:
		_ = unix.Mkfifo(a, 0o600)
	case 10:
		_ = unix.Lsetxattr(a, "user.n", fmt.Append(nil, w.n), 0)
	case 11:
		_ = unix.Lremovexattr(a, "user.n")
	case 12:
		if fi, err := os.Lstat(a); err == nil && fi.IsDir() && w.rand.IntN(20) == 0 {
			_ = os.RemoveAll(a)
		}
	}
}

func (w *worker) work() {
	defer close(w.done)
	for {
		select {
		case <-w.quit:
			return
		default:
		}
		w.mu.Lock()
		w.act()
		w.mu.Unlock()
	}
}

// A copy is what the tree is at the moment for which it stands still, whatever happens to it
// before and after.
func TestCopyOfATreeThatNeverStops(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("of the host"), 0o600))
	for round := range 10 {
		seed := uint64(time.Now().UnixNano())
		w := &worker{root: t.TempDir(), secret: secret, rand: rand.New(rand.NewPCG(seed, 0)), quit: make(chan struct{}), done: make(chan struct{})}
		for range 1500 {
			w.act()
		}
		for n := range 100 {
			must(t, os.MkdirAll(filepath.Join(w.root, fmt.Sprint("more", n%10)), 0o755), os.WriteFile(filepath.Join(w.root, fmt.Sprint("more", n%10), fmt.Sprint(n)), make([]byte, 1<<16), 0o644))
		}
		age()
		dst, made, last := t.TempDir(), w.n, 0
		go w.work()
		calls := 0
		quiet := func(context.Context) (func(), error) {
			w.mu.Lock()
			if calls++; calls == 1 {
				return w.mu.Unlock, nil
			}
			last = w.n
			return func() {
				defer w.mu.Unlock()
				same(t, dst, w.root)
			}, nil
		}
		err := tree.CopyTree(t.Context(), dst, w.root, tree.Options{Quiet: quiet}, exact)
		t.Logf("%d changes before the copy, %d meanwhile", made, last-made)
		close(w.quit)
		<-w.done
		if err != nil || t.Failed() {
			t.Fatalf("round %d, seed %d, after %d changes: %v", round, seed, last, err)
		}
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "of the host" {
		t.Errorf("a file outside holds %q, %v", b, err)
	}
}

func TestCopyOfALiveTreeLetsGoWhateverHappens(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "f"), []byte("x"), 0o644))
	busy := errors.New("they do not stop")
	for fail := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		calls, held, bytes := 0, 0, 0
		quiet := func(context.Context) (func(), error) {
			calls++
			if calls == fail {
				return nil, busy
			}
			if fail == 3 || fail == 4 && calls == 2 {
				cancel()
			}
			held++
			return func() { held-- }, nil
		}
		err := tree.CopyWith(ctx, t.TempDir(), src, tree.Options{Quiet: quiet, Count: func(int64) { bytes++ }})
		want := []error{nil, busy, busy, context.Canceled, context.Canceled}[fail]
		if !errors.Is(err, want) || held != 0 || fail == 1 && bytes > 0 {
			t.Errorf("case %d: %v, held still %d times more", fail, err, held)
		}
		cancel()
	}
}

func TestMemoryOfAFileThatChangesWhileItIsCopied(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "f"), make([]byte, 4096), 0o644))
	f, err := os.OpenFile(filepath.Join(src, "f"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer func() { must(t, unix.Munmap(m)) }()
	m[0] = 1 // from here on the page can be written to without anybody being told
	var fsys unix.Statfs_t
	must(t, unix.Statfs(src, &fsys))
	if fsys.Type == unix.TMPFS_MAGIC {
		t.Skip("a tmpfs never tells of such writes")
	}
	dst := between(t, src, tree.Options{}, func(string) { m[0] = 2 })
	if b, err := os.ReadFile(filepath.Join(dst, "f")); err != nil || b[0] != 2 {
		t.Errorf("the copy begins with %d, %v", b[0], err)
	}
}

// What has just changed is as much part of the copy as the rest, whether or not somebody
// begins to write while it is copied.
func TestCopyOfAnIdleTreeHasWhatIsNew(t *testing.T) {
	t.Parallel()
	for _, touchedAt := range []int{1000, 0, 1, 4, 9, 14} {
		src, dst := t.TempDir(), t.TempDir()
		p := func(n string) string { return filepath.Join(src, n) }
		for i := range 10 {
			d := p(fmt.Sprint("d", i))
			must(t, os.Mkdir(d, 0o755), os.WriteFile(d+"/f", []byte("old"), 0o644), os.Link(d+"/f", d+"/link"), os.Symlink("f", d+"/sym"))
		}
		var mu sync.Mutex
		asked, touched, calls := 0, false, 0
		o := tree.Options{
			Idle: func() bool {
				mu.Lock()
				defer mu.Unlock()
				if asked++; asked > touchedAt && !touched {
					touched = true
					must(t, os.WriteFile(p("d0/f"), []byte("changed"), 0o644), os.WriteFile(p("d9/made"), []byte("made"), 0o644), os.Remove(p("d5/sym")))
				}
				return !touched
			},
			Quiet: func(context.Context) (func(), error) { calls++; return func() {}, nil },
		}
		must(t, tree.CopyTree(t.Context(), dst, src, o, time.Hour))
		if calls != 2 {
			t.Errorf("held still %d times", calls)
		}
		if touched == (touchedAt == 1000) {
			t.Fatalf("it was asked %d times", asked)
		}
		same(t, dst, src)
	}
}
