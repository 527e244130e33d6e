// Package fsmount mounts the file systems that storage pools live on, reads what is
// mounted, and tells when one is full.
package fsmount

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Mount is one line of the kernel's table.
type Mount struct {
	Root    string // the part of the file system that is seen
	Target  string
	Options string // of the mount
	FSType  string
	Source  string
	Super   string // options of the file system
}

// List reads the table of this process's mount namespace.
func List() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []Mount
	s := bufio.NewScanner(f)
	s.Buffer(make([]byte, 64<<10), 1<<20)
	for s.Scan() {
		if m, ok := parse(s.Text()); ok {
			out = append(out, m)
		}
	}
	return out, s.Err()
}

func parse(line string) (Mount, bool) {
	front, back, ok := strings.Cut(line, " - ")
	f, b := strings.Fields(front), strings.Fields(back)
	if !ok || len(f) < 6 || len(b) < 2 {
		return Mount{}, false
	}
	m := Mount{Root: unescape(f[3]), Target: unescape(f[4]), Options: f[5], FSType: b[0], Source: unescape(b[1])}
	if len(b) > 2 {
		m.Super = b[2]
	}
	return m, true
}

// unescape undoes the kernel's \040 and the like.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] >= '0' && s[i+1] <= '3' {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// At returns what is mounted on target, the topmost if there are several. The kernel's
// table has no links in its paths, and so those on the way to target are followed.
func At(target string) (Mount, bool, error) {
	if way, err := filepath.EvalSymlinks(filepath.Dir(target)); err == nil {
		target = filepath.Join(way, filepath.Base(target))
	}
	all, err := List()
	if err != nil {
		return Mount{}, false, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Target == target {
			return all[i], true, nil
		}
	}
	return Mount{}, false, nil
}

// Do mounts a file system. options are those of the file system, joined by commas.
func Do(source, target, fstype string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, fstype, flags, options); err != nil {
		return fmt.Errorf("mount %s on %s as %s: %w", source, target, fstype, err)
	}
	return nil
}

// Bind shows the folder source, without what is mounted below it, at target too.
func Bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	return nil
}

// busyFor is how long Undo waits for a busy file system.
const busyFor = 2 * time.Second

// Undo unmounts all that is mounted on target. It is no error if that is nothing.
//
// A busy one is tried again for a while: a program that this process is just starting
// has copies of our descriptors until its exec.
func Undo(ctx context.Context, target string) error {
	until := time.Now().Add(busyFor)
	for pause := time.Millisecond; ; {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil:
			continue
		case errors.Is(err, unix.EBUSY) && time.Now().Before(until):
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pause):
				pause *= 2
			}
		case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT):
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
}

// Flags splits mount options into flags and what is left for the file system.
func Flags(options string) (uintptr, string) {
	known := map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
		"sync": unix.MS_SYNCHRONOUS, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME,
		"relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME, "lazytime": unix.MS_LAZYTIME,
		"dirsync": unix.MS_DIRSYNC, "silent": unix.MS_SILENT, "defaults": 0, "rw": 0,
	}
	var flags uintptr
	var rest []string
	for o := range strings.SplitSeq(options, ",") {
		if o = strings.TrimSpace(o); o == "" {
			continue
		}
		if f, ok := known[o]; ok {
			flags |= f
			continue
		}
		rest = append(rest, o)
	}
	return flags, strings.Join(rest, ",")
}

// IsFull reports whether the file system of an open file or folder is nearly full. The
// reserve is a 64th of it, but at most 64 MiB: on a host's own disk the database needs room
// too.
func IsFull(f *os.File) bool {
	full, kind := nearlyFull(f)
	if full && kind == unix.BTRFS_SUPER_MAGIC {
		// What was removed counts until it is written down that it was.
		if unix.Syncfs(int(f.Fd())) == nil {
			full, _ = nearlyFull(f)
		}
	}
	return full
}

func nearlyFull(f *os.File) (full bool, kind int64) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false, 0
	}
	reserve := min(st.Blocks/64, 64<<20/uint64(st.Bsize))
	return st.Bavail < reserve || st.Files > 0 && st.Ffree < min(st.Files/64, 1000), int64(st.Type)
}

// Meter bounds how often somebody who writes much asks IsFull. The zero value is ready.
type Meter struct{ since int64 }

// lookEvery is how much may be written between two looks.
const lookEvery = 8 << 20

// Full counts bytes that are about to be written to a file, and asks now and then.
func (m *Meter) Full(f *os.File, n int) bool {
	if m.since += int64(n); m.since < lookEvery {
		return false
	}
	m.since = 0
	return IsFull(f)
}
