package child

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sett/lxd/shim/wire"
)

// stage moves the calling thread to a mount namespace of its own, which follows
// the host's, and makes the mounts there. No other process ever sees them, and
// they go when the monitor does.
func stage(dir string, mounts []wire.StagedMount) error {
	// The sources belong to the host's namespace: the kernel copies them only there.
	trees := make([]int, len(mounts))
	for i, m := range mounts {
		tree, err := detach(m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Source, err)
		}
		defer unix.Close(tree)
		trees[i] = tree
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "mode=0711"); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	for i, m := range mounts {
		if err := attach(trees[i], filepath.Join(dir, m.Name)); err != nil {
			return fmt.Errorf("%s: %w", m.Source, err)
		}
	}
	return nil
}

// detach copies a source as a mount that is nowhere yet.
func detach(m wire.StagedMount) (int, error) {
	from, source, flags := unix.AT_FDCWD, m.Source, uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	attr := uint(unix.AT_EMPTY_PATH)
	if m.FD >= 0 {
		from, source = wire.FDSource+m.FD, ""
		flags |= unix.AT_EMPTY_PATH
	}
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
		attr |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(from, source, flags)
	if err != nil {
		return -1, err
	}
	if m.Attrs != 0 {
		if err := unix.MountSetattr(tree, "", attr, &unix.MountAttr{Attr_set: m.Attrs}); err != nil {
			_ = unix.Close(tree)
			return -1, err
		}
	}
	return tree, nil
}

func attach(tree int, at string) error {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(at, 0o755)
	} else {
		err = os.WriteFile(at, nil, 0o644)
	}
	if err != nil {
		return err
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
