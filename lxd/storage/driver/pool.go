package driver

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// Path is where the pool is seen on this host.
func (e Env) Path() string { return filepath.Join(e.Dir, "storage-pools", e.Pool) }

// LoopFile is the pool's file when it brings its own disk.
func (e Env) LoopFile() string { return filepath.Join(e.Dir, "disks", e.Pool+".img") }

// CheckSourcePath refuses sources that could not be a folder for a pool.
func CheckSourcePath(e Env) error {
	src := Source.Get(e.Config)
	if src == "" {
		return nil
	}
	if !filepath.IsAbs(src) || filepath.Clean(src) != strings.TrimSuffix(src, "/") {
		return errs.Invalid("Source %q is not an absolute path", src)
	}
	// A folder inside LXD_DIR would mix with the daemon's own.
	if rel, err := filepath.Rel(e.Dir, src); err == nil && !strings.HasPrefix(rel, "..") && filepath.Clean(src) != e.Path() {
		return errs.Invalid("Source %q is inside of %s; only %s may be used there", src, e.Dir, e.Path())
	}
	return nil
}

// Statfs asks the file system at path how full it is.
func Statfs(path string) (Resources, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Resources{}, err
	}
	size := uint64(st.Bsize)
	return Resources{
		SpaceTotal: st.Blocks * size, SpaceUsed: (st.Blocks - st.Bfree) * size,
		InodesTotal: st.Files, InodesUsed: st.Files - st.Ffree,
	}, nil
}
