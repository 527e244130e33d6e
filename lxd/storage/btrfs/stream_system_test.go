//go:build system

package btrfs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

// words write a stream by hand.
type words struct{ bytes.Buffer }

func stream() *words {
	w := &words{}
	w.WriteString("btrfs-stream\x00\x01\x00\x00\x00")
	return w
}

type attr struct {
	kind uint16
	data []byte
}

func str(kind uint16, s string) attr { return attr{kind, []byte(s)} }

func num(kind uint16, n uint64) attr { return attr{kind, binary.LittleEndian.AppendUint64(nil, n)} }

func mark(kind uint16, b byte) attr { return attr{kind, bytes.Repeat([]byte{b}, 16)} }

func (w *words) do(cmd uint16, as ...attr) *words {
	le := binary.LittleEndian
	var body []byte
	for _, a := range as {
		body = le.AppendUint16(body, a.kind)
		body = le.AppendUint16(body, uint16(len(a.data)))
		body = append(body, a.data...)
	}
	h := le.AppendUint32(nil, uint32(len(body)))
	h = le.AppendUint16(h, cmd)
	h = le.AppendUint32(h, 0)
	sum := ^crc32.Update(^uint32(0), crc32.MakeTable(crc32.Castagnoli), append(bytes.Clone(h), body...))
	le.PutUint32(h[6:], sum)
	w.Write(h)
	w.Write(body)
	return w
}

func (w *words) subvol() *words { return w.do(1, str(15, "x"), mark(1, 'm'), num(2, 1)) }

func TestStreamsGoFromPoolToPool(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	from, to := newPool(t, t.TempDir(), map[string]string{"size": "256MiB"}), newPool(t, t.TempDir(), map[string]string{"size": "256MiB"})
	a := driver.Volume{Type: driver.Container, Name: "a"}
	must(t, from.Create(ctx, a, nil))
	file := filepath.Join(from.Path(a), "f")
	must(t, os.WriteFile(file, bytes.Repeat([]byte("one "), 50000), 0o4711), os.Chmod(file, 0o4711), os.Chown(file, 12, 34), os.Chmod(file, os.ModeSetuid|0o711),
		os.Link(file, filepath.Join(from.Path(a), "g")), os.Symlink("/etc/passwd", filepath.Join(from.Path(a), "s")),
		unix.Mknod(filepath.Join(from.Path(a), "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))), unix.Mkfifo(filepath.Join(from.Path(a), "p"), 0o600),
		unix.Lsetxattr(file, "user.x", []byte("y"), 0), from.CreateSnapshot(ctx, a.Snapshot("s0"), nil))
	must(t, os.WriteFile(file, []byte("two"), 0o600), os.Remove(filepath.Join(from.Path(a), "g")), from.CreateSnapshot(ctx, a.Snapshot("s1"), nil))
	s := from.(driver.Streamer)
	var first, second bytes.Buffer
	must(t, s.Send(ctx, from.Path(a.Snapshot("s0")), "", &first), s.Send(ctx, from.Path(a.Snapshot("s1")), from.Path(a.Snapshot("s0")), &second))
	if second.Len() > first.Len()/4 {
		t.Errorf("the difference takes %d bytes, the whole %d", second.Len(), first.Len())
	}
	r, came, checked := to.(driver.Streamer), map[string]string{}, 0
	check := func(context.Context, string) error { checked++; return nil }
	b := a.Renamed("b")
	if err := r.Receive(ctx, b, bytes.NewReader(second.Bytes()), came, check); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "has not come with it") {
		t.Errorf("a difference to nothing: %v", err)
	}
	must(t, r.Receive(ctx, b.Snapshot("s0"), &first, came, check), r.Receive(ctx, b, &second, came, check))
	was := filepath.Join(to.Path(b.Snapshot("s0")), "f")
	text, err := os.ReadFile(was)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Lstat(was, &st))
	x := make([]byte, 8)
	n, err := unix.Lgetxattr(was, "user.x", x)
	if len(text) != 200000 || st.Uid != 12 || st.Gid != 34 || st.Mode&0o7777 != 0o4711 || st.Nlink != 2 || err != nil || string(x[:n]) != "y" {
		t.Errorf("the file is %d bytes, %+v, %q, %v", len(text), st, x[:max(n, 0)], err)
	}
	if to, err := os.Readlink(filepath.Join(to.Path(b), "s")); to != "/etc/passwd" {
		t.Errorf("the link goes to %q, %v", to, err)
	}
	must(t, unix.Lstat(filepath.Join(to.Path(b), "null"), &st))
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("the device is %o %x", st.Mode, st.Rdev)
	}
	if text, _ := os.ReadFile(filepath.Join(to.Path(b), "f")); string(text) != "two" {
		t.Errorf("the volume holds %q", text)
	}
	if err := os.WriteFile(filepath.Join(to.Path(b.Snapshot("s0")), "new"), nil, 0o600); err == nil {
		t.Error("the snapshot can be written to")
	}
	must(t, os.WriteFile(filepath.Join(to.Path(b), "new"), nil, 0o600))
	if checked != 2 {
		t.Errorf("%d were checked", checked)
	}
}

// slowly reads less than is sent, so that the sender waits.
type slowly struct{ bytes.Buffer }

func (s *slowly) Write(b []byte) (int, error) {
	<-time.After(2 * time.Millisecond)
	return s.Buffer.Write(b)
}

// TestSignalsDoNotBeginAStreamAnew: the kernel begins an interrupted ioctl again, but what
// it has sent until then has gone out.
func TestSignalsDoNotBeginAStreamAnew(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, t.TempDir(), map[string]string{"size": "256MiB"})
	a := driver.Volume{Type: driver.Container, Name: "a"}
	must(t, p.Create(ctx, a, nil))
	content := make([]byte, 8<<20)
	rand.New(rand.NewSource(1)).Read(content)
	must(t, os.WriteFile(filepath.Join(p.Path(a), "f"), content, 0o600), p.CreateSnapshot(ctx, a.Snapshot("s0"), nil))
	s := p.(driver.Streamer)
	var calm bytes.Buffer
	must(t, s.Send(ctx, p.Path(a.Snapshot("s0")), "", &calm))

	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
			}
			tasks, _ := os.ReadDir("/proc/self/task")
			for _, e := range tasks {
				if tid, err := strconv.Atoi(e.Name()); err == nil {
					_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG) // which Go sends itself, to have a thread look up
				}
			}
		}
	})
	var disturbed slowly
	err := s.Send(ctx, p.Path(a.Snapshot("s0")), "", &disturbed)
	close(over)
	wg.Wait()
	if err != nil || !bytes.Equal(disturbed.Bytes(), calm.Bytes()) {
		t.Errorf("got %d bytes instead of %d, %v", disturbed.Len(), calm.Len(), err)
	}
}

// TestHostileStreamsHitThemselves has streams reach for what is not theirs.
func TestHostileStreamsHitThemselves(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := newPool(t, t.TempDir(), map[string]string{"size": "256MiB"})
	other := driver.Volume{Type: driver.Container, Name: "other"}
	must(t, p.Create(ctx, other, nil))
	prey := filepath.Join(p.Path(other), "prey")
	must(t, os.WriteFile(prey, []byte("mine"), 0o600))
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(outside, []byte("mine"), 0o600))
	up := strings.Repeat("../", 8)
	write := func(w *words, path string) *words { return w.do(15, str(15, path), num(18, 0), str(19, "gotcha")) }
	for what, w := range map[string]*words{
		"climb":                write(stream().subvol(), up+"other/prey"),
		"absolute":             write(stream().subvol(), outside),
		"make a file above":    stream().subvol().do(3, str(15, "../new")),
		"a link to the prey":   write(stream().subvol().do(8, str(15, "l"), str(17, prey)), "l"),
		"a link on the way":    write(stream().subvol().do(8, str(15, "d"), str(17, filepath.Dir(prey))), "d/prey"),
		"make behind a link":   stream().subvol().do(8, str(15, "d"), str(17, filepath.Dir(outside))).do(3, str(15, "d/new")),
		"truncate":             stream().subvol().do(8, str(15, "l"), str(17, outside)).do(17, str(15, "l"), num(4, 0)),
		"mode behind a link":   stream().subvol().do(8, str(15, "l"), str(17, outside)).do(18, str(15, "l"), num(5, 0o777)),
		"rename out":           stream().subvol().do(3, str(15, "f")).do(9, str(15, "f"), str(16, "../f")),
		"rename in":            stream().subvol().do(9, str(15, "../../containers/other"), str(16, "mine")),
		"hard link out":        stream().subvol().do(10, str(15, "f"), str(17, up+outside[1:])),
		"unlink":               stream().subvol().do(11, str(15, up+outside[1:])),
		"open a fifo":          write(stream().subvol().do(6, str(15, "p")), "p"),
		"open a device":        write(stream().subvol().do(5, str(15, "z"), num(5, unix.S_IFCHR|0o600), num(8, 0x105)), "z"),
		"clone from elsewhere": stream().subvol().do(3, str(15, "f")).do(16, str(15, "f"), num(18, 0), num(24, 4), mark(20, 'o'), str(22, "prey"), num(23, 0)),
		"build on another":     stream().do(2, str(15, "x"), mark(1, 'm'), num(2, 1), mark(20, 'o'), num(21, 1)),
		"nothing first":        stream().do(3, str(15, "f")),
		"twice":                stream().subvol().subvol(),
		"unknown":              stream().subvol().do(99),
		"no name":              stream().subvol().do(3),
		"an empty name":        stream().subvol().do(3, str(15, "a//b")),
		"a zero byte":          stream().subvol().do(3, str(15, "a\x00b")),
		"cut":                  stream().subvol(),
		"a number missing":     stream().subvol().do(3, str(15, "f")).do(17, str(15, "f")),
		"a folder for device":  stream().subvol().do(5, str(15, "z"), num(5, unix.S_IFDIR|0o755), num(8, 0)),
	} {
		t.Run(what, func(t *testing.T) {
			v := driver.Volume{Type: driver.Container, Name: "v"}
			if what != "cut" {
				w.do(21)
			}
			err := p.(driver.Streamer).Receive(ctx, v, &w.Buffer, map[string]string{}, nil)
			if err == nil {
				t.Error("it was taken")
			}
			for _, path := range []string{prey, outside} {
				var st unix.Stat_t
				if b, e := os.ReadFile(path); e != nil || string(b) != "mine" || unix.Lstat(path, &st) != nil || st.Mode&0o777 != 0o600 || st.Nlink != 1 {
					t.Errorf("%s holds %q, %v, %o", path, b, e, st.Mode)
				}
			}
			for _, path := range []string{filepath.Join(filepath.Dir(outside), "new"), filepath.Join(filepath.Dir(p.Path(v)), "f"), p.Path(v)} {
				if _, err := os.Lstat(path); err == nil {
					t.Errorf("%s has come to be", path)
				}
			}
		})
	}
	must(t, p.Close(ctx))
	if left, err := os.ReadDir(filepath.Join(p.Path(other), "../../.sett/new")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// A wrong sum, garbage, and another version.
	bad := stream().subvol().do(21)
	bad.Bytes()[30] ^= 1
	v2 := []byte("btrfs-stream\x00\x02\x00\x00\x00")
	for _, r := range []io.Reader{&bad.Buffer, strings.NewReader("hello"), bytes.NewReader(v2)} {
		if err := p.(driver.Streamer).Receive(ctx, other.Renamed("v"), r, map[string]string{}, nil); !errs.Is(err, errs.KindInvalid) && !errs.Is(err, errs.KindNotImplemented) {
			t.Errorf("got %v", err)
		}
	}
}

// TestLimitHoldsWhileAStreamComes: of a stream that is larger than the volume may be no more
// than that comes onto the disk, and nothing stays.
func TestLimitHoldsWhileAStreamComes(t *testing.T) {
	t.Parallel()
	p := newPool(t, t.TempDir(), map[string]string{"size": "512MiB"})
	ctx := t.Context()
	w := stream().subvol().do(3, str(15, "f"))
	for n := range 64 << 20 >> 15 {
		w.do(15, str(15, "f"), num(18, uint64(n)<<15), attr{19, bytes.Repeat([]byte{byte(n), 1}, 1<<14)})
	}
	w.do(21)
	all := w.Len()
	for _, name := range []string{"v", "v/s"} {
		in := bytes.NewReader(w.Bytes())
		v := driver.Volume{Type: driver.Container, Name: name, Config: map[string]string{"size": "8MiB"}}
		err := p.(driver.Streamer).Receive(ctx, v, in, map[string]string{}, nil)
		if !errors.Is(err, unix.EDQUOT) || !strings.Contains(driver.Explain(err).Error(), "size limit") {
			t.Errorf("%s: %v", name, err)
		}
		if read := all - in.Len(); read > 32<<20 {
			t.Errorf("%s: it went on for %d bytes", name, read)
		}
		if _, err := os.Lstat(p.Path(v)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	must(t, p.Close(ctx))
	if left, err := filepath.Glob(filepath.Join(p.Path(driver.Volume{Type: driver.Container, Name: "v"}), "../../.sett/*/*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestStreamsOfHolesEnd: a few bytes may stand for a file as large as any disk.
func TestStreamsOfHolesEnd(t *testing.T) {
	t.Parallel()
	p := newPool(t, t.TempDir(), map[string]string{"size": "256MiB"})
	w := stream().subvol().do(3, str(15, "hole")).do(17, str(15, "hole"), num(4, 1<<40)).do(3, str(15, "f"))
	// Blocks that do not begin at a block cannot be shared.
	w.do(16, str(15, "f"), num(18, 1), num(24, 1<<40), mark(20, 'm'), str(22, "hole"), num(23, 1)).do(21)
	v := driver.Volume{Type: driver.Container, Name: "v"}
	err := p.(driver.Streamer).Receive(t.Context(), v, &w.Buffer, map[string]string{}, nil)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(driver.Explain(err).Error(), "pool is full") {
		t.Errorf("got %v", err)
	}
	if ok, err := p.Exists(t.Context(), v); ok || err != nil {
		t.Errorf("it is there: %v, %v", ok, err)
	}
}
