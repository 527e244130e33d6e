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
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "mode=0711"); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	for _, m := range mounts {
		if err := stageOne(filepath.Join(dir, m.Name), m); err != nil {
			return fmt.Errorf("%s: %w", m.Source, err)
		}
	}
	return nil
}

func stageOne(at string, m wire.StagedMount) error {
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
		return err
	}
	defer unix.Close(tree)
	if m.Attrs != 0 {
		if err := unix.MountSetattr(tree, "", attr, &unix.MountAttr{Attr_set: m.Attrs}); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
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
