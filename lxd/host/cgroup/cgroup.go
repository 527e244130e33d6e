// Package cgroup finds the host's cgroup hierarchies, whichever of the three
// layouts it has (v1, v2, or both), and works on groups by reading and writing
// their files. It knows nothing of containers.
package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Hierarchy is one mounted tree of groups.
type Hierarchy struct {
	V2          bool
	Controllers []string // of v1 also "name=systemd"
	Mount       string
	Base        string // group of the host's init, below which ours are made
}

// Layout is all of a host's hierarchies. It does not change while the host runs.
type Layout struct{ Hierarchies []Hierarchy }

// Detect reads this host's layout.
func Detect() (*Layout, error) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer mounts.Close()
	groups, err := os.Open("/proc/1/cgroup")
	if err != nil {
		return nil, err
	}
	defer groups.Close()
	return parse(mounts, groups, os.ReadFile)
}

func parse(mounts, groups io.Reader, read func(string) ([]byte, error)) (*Layout, error) {
	l := &Layout{}
	seen := map[string]bool{}
	for sc := bufio.NewScanner(mounts); sc.Scan(); {
		// 36 35 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
		left, right, ok := strings.Cut(sc.Text(), " - ")
		f, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 5 || len(r) < 3 {
			continue
		}
		h := Hierarchy{Mount: f[4], V2: r[0] == "cgroup2"}
		if !h.V2 {
			if r[0] != "cgroup" {
				continue
			}
			for _, o := range strings.Split(r[2], ",") {
				switch o {
				case "rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode":
				default:
					if !strings.HasPrefix(o, "release_agent=") {
						h.Controllers = append(h.Controllers, o)
					}
				}
			}
		}
		// One hierarchy may be mounted more than once; the first serves.
		key := strings.Join(h.Controllers, ",")
		if h.V2 {
			key = "v2"
		}
		if seen[key] || key == "" {
			continue
		}
		seen[key] = true
		l.Hierarchies = append(l.Hierarchies, h)
	}
	for sc := bufio.NewScanner(groups); sc.Scan(); {
		p := strings.SplitN(sc.Text(), ":", 3)
		if len(p) != 3 {
			continue
		}
		// systemd keeps itself in a leaf; groups are made beside that leaf.
		base := strings.TrimSuffix(p[2], "/init.scope")
		for i := range l.Hierarchies {
			h := &l.Hierarchies[i]
			if p[0] == "0" && h.V2 || !h.V2 && slices.Contains(h.Controllers, strings.Split(p[1], ",")[0]) {
				h.Base = "/" + strings.Trim(base, "/")
			}
		}
	}
	for i := range l.Hierarchies {
		h := &l.Hierarchies[i]
		if h.Base == "" {
			h.Base = "/"
		}
		if h.V2 {
			b, err := read(filepath.Join(h.Mount, h.Base, "cgroup.controllers"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			h.Controllers = strings.Fields(string(b))
		}
	}
	if len(l.Hierarchies) == 0 {
		return nil, errors.New("No cgroup hierarchy is mounted on this host; containers need one below /sys/fs/cgroup")
	}
	return l, nil
}

// Mode is "unified", "hybrid" or "legacy".
func (l *Layout) Mode() string {
	v1, v2 := 0, 0
	for _, h := range l.Hierarchies {
		if h.V2 {
			v2++
		} else {
			v1++
		}
	}
	switch {
	case v1 == 0:
		return "unified"
	case v2 == 0:
		return "legacy"
	}
	return "hybrid"
}

// Find returns the hierarchy that has a controller, nil when none has. The
// freezer is part of every v2 hierarchy and of no list; v1's goes first.
func (l *Layout) Find(controller string) *Hierarchy {
	for i := range l.Hierarchies {
		if slices.Contains(l.Hierarchies[i].Controllers, controller) {
			return &l.Hierarchies[i]
		}
	}
	if controller == "freezer" {
		return l.V2()
	}
	return nil
}

// V2 returns the v2 hierarchy, or nil.
func (l *Layout) V2() *Hierarchy {
	for i := range l.Hierarchies {
		if l.Hierarchies[i].V2 {
			return &l.Hierarchies[i]
		}
	}
	return nil
}

// Dir is where a group lies.
func (h *Hierarchy) Dir(group string) string { return filepath.Join(h.Mount, h.Base, group) }

// Joinable is the folder of a group, or of one below it, that takes processes: a group of
// version 2 that hands controllers down takes none itself.
func (h *Hierarchy) Joinable(group string) (string, error) {
	dir := h.Dir(group)
	if !h.V2 {
		return dir, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil || strings.TrimSpace(string(b)) == "" {
		return dir, nil
	}
	dir = filepath.Join(dir, ".lxc")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return dir, nil
}

// Entry is the file of a folder to which a process of one thread writes "0" to move
// itself there. In version 1 such a thread moves alone; for the list of processes the
// kernel would hold up every start and end of a process on the host, which alone takes
// it ten milliseconds or more.
func (h *Hierarchy) Entry(dir string) string {
	if h.V2 {
		return filepath.Join(dir, "cgroup.procs")
	}
	return filepath.Join(dir, "tasks")
}

// ErrNoController is returned where the host lacks what a setting needs.
var ErrNoController = errors.New("this host has no such cgroup controller")

// Group is one group in all hierarchies.
type Group struct {
	layout *Layout
	name   string
}

// Group names a group; it need not exist.
func (l *Layout) Group(name string) Group { return Group{l, name} }

// Dirs are the group's folders in all hierarchies.
func (g Group) Dirs() []string {
	var out []string
	for i := range g.layout.Hierarchies {
		out = append(out, g.layout.Hierarchies[i].Dir(g.name))
	}
	return out
}

func (g Group) path(controller, file string) (string, error) {
	h := g.layout.Find(controller)
	if h == nil {
		return "", fmt.Errorf("%s: %w", controller, ErrNoController)
	}
	return filepath.Join(h.Dir(g.name), file), nil
}

// Read reads a file of the group where the controller is.
func (g Group) Read(controller, file string) (string, error) {
	p, err := g.path(controller, file)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(p)
	return strings.TrimSpace(string(b)), err
}

// ReadInt reads a file with one number; "max" is -1.
func (g Group) ReadInt(controller, file string) (int64, error) {
	s, err := g.Read(controller, file)
	if err != nil {
		return -1, err
	}
	if s == "max" {
		return -1, nil
	}
	return strconv.ParseInt(s, 10, 64)
}

// Write writes a file of the group where the controller is.
func (g Group) Write(controller, file, value string) error {
	p, err := g.path(controller, file)
	if err != nil {
		return err
	}
	// Never O_CREAT: a missing file means a missing feature.
	f, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Processes lists the processes in the group and below it, over all hierarchies.
func (g Group) Processes(ctx context.Context) ([]int, error) {
	seen := map[int]bool{}
	for _, dir := range g.Dirs() {
		err := walk(ctx, dir, func(group *os.File) error {
			s, err := readAt(group, "cgroup.procs")
			if errors.Is(err, unix.EOPNOTSUPP) {
				err = nil // of v2's threads: the group that owns them tells
			}
			for _, f := range strings.Fields(s) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
					seen[pid] = true
				}
			}
			return err
		}, func(*os.File, string) error { return nil })
		if err != nil {
			return nil, fmt.Errorf("processes of cgroup %s: %w", dir, err)
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// Freeze stops or resumes the group and waits until the kernel has done so.
func (g Group) Freeze(ctx context.Context, frozen bool) error {
	h := g.layout.Find("freezer")
	if h == nil {
		return fmt.Errorf("freezer: %w", ErrNoController)
	}
	file, value := "freezer.state", "THAWED"
	switch {
	case h.V2 && frozen:
		file, value = "cgroup.freeze", "1"
	case h.V2:
		file, value = "cgroup.freeze", "0"
	case frozen:
		value = "FROZEN"
	}
	if err := g.Write("freezer", file, value); err != nil {
		return err
	}
	again := time.Now().Add(freezeAnew)
	return poll(ctx, func() (bool, error) {
		now, err := g.Frozen()
		if err == nil && !now && value == "FROZEN" && time.Now().After(again) {
			again = time.Now().Add(freezeAnew)
			err = errors.Join(g.Write("freezer", file, "THAWED"), g.Write("freezer", file, value))
		}
		return now == frozen, err
	})
}

// freezeAnew is after what time a freeze of version 1 is begun anew. Where processes come
// and go at the wrong moment the kernel may leave it half done for good.
const freezeAnew = 500 * time.Millisecond

// Frozen reports whether the whole group stands still.
func (g Group) Frozen() (bool, error) {
	h := g.layout.Find("freezer")
	if h == nil {
		return false, nil
	}
	if !h.V2 {
		s, err := g.Read("freezer", "freezer.state")
		return s == "FROZEN", err
	}
	s, err := g.Read("freezer", "cgroup.events")
	return strings.Contains(s, "frozen 1"), err
}

// Release thaws the group and every group below it, where frozen processes do not
// die of a signal that ends them: those of v1's freezer. A guest may have frozen
// groups of its own, each of which has to be thawed by itself.
func (g Group) Release(ctx context.Context) error {
	h := g.layout.Find("freezer")
	if h == nil || h.V2 {
		return nil
	}
	err := walk(ctx, h.Dir(g.name), func(group *os.File) error {
		return writeAt(group, "freezer.state", "THAWED")
	}, func(*os.File, string) error { return nil })
	if err != nil {
		return fmt.Errorf("thaw cgroup %s: %w", h.Dir(g.name), err)
	}
	return nil
}

// Kill ends every process in the group and returns when none is left.
func (g Group) Kill(ctx context.Context) error {
	if h := g.layout.V2(); h != nil && len(g.layout.Hierarchies) == 1 {
		if err := os.WriteFile(filepath.Join(h.Dir(g.name), "cgroup.kill"), []byte("1"), 0); errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Stat(h.Dir(g.name)); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
		}
	}
	return poll(ctx, func() (bool, error) {
		pids, err := g.Processes(ctx)
		if err != nil || len(pids) == 0 {
			return true, err
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		return false, g.Release(ctx)
	})
}

// Remove removes the group and all below it. A process that is just ending keeps
// its group for a moment, so that is waited for.
func (g Group) Remove(ctx context.Context) error {
	for _, dir := range g.Dirs() {
		err := poll(ctx, func() (bool, error) {
			err := removeTree(ctx, dir)
			if errors.Is(err, unix.EBUSY) {
				return false, nil
			}
			return true, err
		})
		if err != nil {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
	return nil
}

// removeTree removes what it can; EBUSY when a process or a new group is in there.
func removeTree(ctx context.Context, dir string) error {
	// Most groups are empty: nothing to walk then.
	if err := unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	} else if !errors.Is(err, unix.EBUSY) {
		return err
	}
	err := walk(ctx, dir, func(*os.File) error { return nil }, func(parent *os.File, name string) error {
		err := unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.EBUSY) {
			return nil // its parents answer the same, and the first is what counts
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// poll asks again and again, soon at first, until done or ctx ends. The kernel
// has no event for what is asked here on v1.
func poll(ctx context.Context, done func() (bool, error)) error {
	wait := 200 * time.Microsecond
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		wait = min(wait*2, 20*time.Millisecond)
	}
}

// Enable hands a controller of v2 down to the groups made below the base, which is
// not so by itself. Elsewhere there is nothing to do.
func (l *Layout) Enable(controller string) error {
	h := l.Find(controller)
	if h == nil {
		return fmt.Errorf("%s: %w", controller, ErrNoController)
	}
	if !h.V2 {
		return nil
	}
	file := filepath.Join(h.Mount, h.Base, "cgroup.subtree_control")
	b, err := os.ReadFile(file)
	if err != nil || slices.Contains(strings.Fields(string(b)), controller) {
		return err
	}
	if err := os.WriteFile(file, []byte("+"+controller), 0); err != nil {
		return fmt.Errorf("hand cgroup controller %s down: %w", controller, err)
	}
	return nil
}
