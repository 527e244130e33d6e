package idmap

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// MinRange is how many ids a guest needs at least: 0 to 65534, nobody included.
const MinRange = 65536

// Host answers what this host can do about ids. It is safe for concurrent use.
type Host struct {
	subuid, subgid string

	mu    sync.Mutex
	probe *os.File // a user namespace with a map, for Mountable
	known map[mount]bool
}

// mount tells mounts apart. Its number may be given to another one later, so what
// was mounted counts too.
type mount struct {
	id    uint64
	magic int64
}

// NewHost reads ranges from /etc/subuid and /etc/subgid.
func NewHost() *Host { return &Host{subuid: "/etc/subuid", subgid: "/etc/subgid"} }

// NewHostAt reads ranges from other files; for tests and chroots.
func NewHostAt(subuid, subgid string) *Host { return &Host{subuid: subuid, subgid: subgid} }

// Close frees what Mountable keeps.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.probe == nil {
		return nil
	}
	err := h.probe.Close()
	h.probe = nil
	return err
}

// Map is the map of unprivileged containers: root's largest ranges of user and
// group ids, from the guest's id 0 on. The files are read each time, so that a
// range that an administrator adds counts at once.
func (h *Host) Map() (Map, error) {
	uid, uidErr := h.largest(h.subuid)
	gid, gidErr := h.largest(h.subgid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, err
	}
	if uid.Range < MinRange || gid.Range < MinRange {
		var where []string
		if uid.Range < MinRange {
			where = append(where, h.subuid)
		}
		if gid.Range < MinRange {
			where = append(where, h.subgid)
		}
		return nil, errs.Invalid("This host lends root no range of at least %d ids in %s, which unprivileged containers need. "+
			"Add ranges with: usermod --add-subuids 1000000-1000999999 --add-subgids 1000000-1000999999 root", MinRange, strings.Join(where, " and "))
	}
	m := Map{
		{UID: true, HostID: uid.HostID, Range: uid.Range},
		{GID: true, HostID: gid.HostID, Range: gid.Range},
	}
	return m, m.Check()
}

func (h *Host) largest(path string) (Entry, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Entry{}, nil
	}
	if err != nil {
		return Entry{}, err
	}
	return largest(string(b)), nil
}

// largest picks root's largest range out of a file. Lines that do not parse are
// somebody else's problem: shadow's own tools pass over them too.
func largest(file string) Entry {
	var best Entry
	for line := range strings.Lines(file) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != "root" && f[0] != "0" {
			continue
		}
		first, err1 := strconv.ParseInt(f[1], 10, 64)
		n, err2 := strconv.ParseInt(f[2], 10, 64)
		if err1 != nil || err2 != nil || first <= 0 || n <= 0 {
			continue
		}
		n = min(n, 1<<32-2-first) // the last id stands for "none"
		if n > best.Range {
			best = Entry{HostID: first, Range: n}
		}
	}
	return best
}

// Mountable reports whether the file system at path takes idmapped mounts. The
// answer for a mount is kept: to take the probe's mount away again costs the kernel
// some 10 ms.
func (h *Host) Mountable(ctx context.Context, path string) bool {
	m, err := mountOf(path)
	if err != nil {
		return h.try(path)
	}
	h.mu.Lock()
	yes, ok := h.known[m]
	h.mu.Unlock()
	if ok {
		return yes
	}
	yes = h.try(path)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil {
		h.known = map[mount]bool{}
	}
	h.known[m] = yes
	return yes
}

func mountOf(path string) (mount, error) {
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &x); err != nil {
		return mount{}, err
	}
	if x.Mask&unix.STATX_MNT_ID == 0 {
		return mount{}, unix.ENOSYS // before Linux 5.8
	}
	var f unix.Statfs_t
	if err := unix.Statfs(path, &f); err != nil {
		return mount{}, err
	}
	return mount{x.Mnt_id, int64(f.Type)}, nil
}

func (h *Host) try(path string) bool {
	ns, err := h.probeNS()
	if err != nil {
		return false
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return false
	}
	defer unix.Close(tree)
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attr) == nil
}

// probeNS is a user namespace whose map has been written: with an empty one the
// kernel answers EINVAL on every file system.
func (h *Host) probeNS() (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.probe != nil {
		return h.probe, nil
	}
	ns, err := UserNS(Map{{UID: true, GID: true, NSID: 0, HostID: 1000000, Range: MinRange}})
	if err == nil {
		h.probe = ns
	}
	return ns, err
}

// Shift implements what instances want of a host; see the function of that name.
func (h *Host) Shift(ctx context.Context, path string, from, to Map) error {
	return Shift(ctx, path, from, to)
}
