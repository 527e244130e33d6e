package lxc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/shim/wire"
)

// staging is what the shim prepares in a mount namespace of its own before liblxc
// forks from there.
type staging struct {
	mounts []wire.StagedMount
	files  []*os.File
}

// root brings the root file system to a place that the guest's root can get to, and
// returns it.
func (s *staging) root(r container.Rootfs, p paths) string {
	m := wire.StagedMount{Name: "rootfs", Source: r.Path, FD: -1}
	if r.ReadOnly {
		m.Attrs = unix.MOUNT_ATTR_RDONLY
	}
	s.mounts = append(s.mounts, m)
	return filepath.Join(p.stage(), "rootfs")
}

func (s *staging) close() {
	for _, f := range s.files {
		_ = f.Close()
	}
}

// stageMounts picks the mounts that must not be made from inside the container
// by their path:
//
//   - those whose source is an open descriptor, so that no symlink can slip in
//     between;
//   - all binds of unprivileged containers. liblxc would walk to the source with
//     the container's ids, which end at the first folder that is closed to others.
//     And a bind that is made read-only from inside the new namespaces can be
//     remounted writable by the guest's root; one that was read-only before the
//     namespaces were made cannot.
func stageMounts(s container.Spec, p paths) (map[int]string, *staging, error) {
	at := map[int]string{}
	st := &staging{}
	for i, m := range s.Mounts {
		if m.FSType != "" && m.FSType != "none" {
			continue
		}
		attrs := attributes(m.Options)
		if m.SourceFD <= 0 && s.IDMap.Empty() {
			continue // host root walks anywhere, and can undo any attribute
		}
		if m.Optional && m.SourceFD <= 0 {
			if _, err := os.Stat(m.Source); err != nil {
				continue // liblxc passes over it
			}
		}
		sm := wire.StagedMount{Name: strconv.Itoa(i), Source: m.Source, Attrs: attrs, Recursive: slices.Contains(m.Options, "rbind"), FD: -1}
		if m.SourceFD > 0 {
			sm.FD = len(st.files)
			fd, err := unix.FcntlInt(uintptr(m.SourceFD), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				st.close()
				return nil, nil, fmt.Errorf("source of the mount at %s: %w", m.Target, err)
			}
			st.files = append(st.files, os.NewFile(uintptr(fd), m.Source))
		}
		st.mounts = append(st.mounts, sm)
		at[i] = filepath.Join(p.stage(), sm.Name)
	}
	return at, st, nil
}

// attributes turns mount options into MOUNT_ATTR_ flags.
func attributes(options []string) uint64 {
	var out uint64
	for _, o := range options {
		switch o {
		case "ro":
			out |= unix.MOUNT_ATTR_RDONLY
		case "nosuid":
			out |= unix.MOUNT_ATTR_NOSUID
		case "nodev":
			out |= unix.MOUNT_ATTR_NODEV
		case "noexec":
			out |= unix.MOUNT_ATTR_NOEXEC
		}
	}
	return out
}
