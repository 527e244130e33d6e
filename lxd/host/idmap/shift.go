package idmap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// maxDepth bounds the descriptors that a walk holds: one for each level.
const maxDepth = 2000

// Shift rewrites the ids of a tree on disk from one map to another, for file
// systems that take no idmapped mounts. An empty map stands for the guest's own
// ids. Owners, ACLs and the root id of file capabilities change; set-id bits, which
// a change of owner clears, stay. Symlinks are changed, never followed; a file
// with several names changes once. Ids that the first map lacks stay as they are.
//
// The container must not run. Shift stops at the first error and is not to be
// repeated then from the same map: what has been changed has been changed.
func Shift(ctx context.Context, path string, from, to Map) error {
	if from.Equal(to) {
		return nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	s := &shifter{ids: Shifter{From: from, To: to}, seen: map[inode]bool{}}
	var st unix.Statx_t
	if err := s.stat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	s.mount = st.Mnt_id
	return s.node(ctx, fd, path, 0)
}

type inode struct {
	major, minor uint32
	ino          uint64
}

type shifter struct {
	ids   Shifter
	mount uint64
	seen  map[inode]bool // files with more than one name
}

func (s *shifter) stat(fd int, st *unix.Statx_t) error {
	return unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, st)
}

// node changes one inode, which fd (O_PATH) holds, and what is below it.
func (s *shifter) node(ctx context.Context, fd int, path string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		return errs.Invalid("%s is nested more than %d folders deep", path, maxDepth)
	}
	var st unix.Statx_t
	if err := s.stat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mnt_id != s.mount {
		return nil // something else is mounted here
	}
	kind := uint32(st.Mode) & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		key := inode{st.Dev_major, st.Dev_minor, st.Ino}
		if s.seen[key] {
			return nil
		}
		s.seen[key] = true
	}
	if err := s.change(fd, &st, kind); err != nil {
		return &os.PathError{Op: "shift ids", Path: path, Err: err}
	}
	if kind != unix.S_IFDIR {
		return nil
	}
	return s.below(ctx, fd, path, depth)
}

func (s *shifter) below(ctx context.Context, fd int, path string, depth int) error {
	dir, err := os.Open(procPath(fd))
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(512)
		if len(names) == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}
		for _, name := range names {
			sub := filepath.Join(path, name)
			child, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return &os.PathError{Op: "open", Path: sub, Err: err}
			}
			err = s.node(ctx, child, sub, depth+1)
			_ = unix.Close(child)
			if err != nil {
				return err
			}
		}
	}
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func (s *shifter) change(fd int, st *unix.Statx_t, kind uint32) error {
	uid, gid := s.ids.UID(st.Uid), s.ids.GID(st.Gid)
	file := procPath(fd)
	var caps []byte
	var err error
	if kind == unix.S_IFREG {
		// A change of owner removes capabilities: they are read first.
		if caps, err = getxattr(file, "security.capability"); err != nil {
			return err
		}
	}
	if uid != st.Uid || gid != st.Gid {
		if err := unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if kind != unix.S_IFLNK && st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
			if err := unix.Chmod(file, uint32(st.Mode)&0o7777); err != nil {
				return err
			}
		}
	}
	if caps != nil {
		if err := unix.Setxattr(file, "security.capability", s.ids.Caps(caps), 0); err != nil {
			return fmt.Errorf("capabilities: %w", err)
		}
	}
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil
	}
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		if kind != unix.S_IFDIR && name == "system.posix_acl_default" {
			continue
		}
		acl, err := getxattr(file, name)
		if err != nil {
			return err
		}
		if acl == nil || !s.ids.ACL(acl) {
			continue
		}
		if err := unix.Setxattr(file, name, acl, 0); err != nil {
			return fmt.Errorf("ACL: %w", err)
		}
	}
	return nil
}

// getxattr returns nil where there is none.
func getxattr(path, name string) ([]byte, error) {
	buf := make([]byte, 512)
	for {
		n, err := unix.Getxattr(path, name, buf)
		switch {
		case err == nil:
			return buf[:n], nil
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
			return nil, nil
		case errors.Is(err, unix.ERANGE) && len(buf) < 1<<16:
			buf = make([]byte, 1<<16)
		default:
			return nil, err
		}
	}
}
