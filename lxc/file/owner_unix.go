//go:build !windows

package file

import (
	"io/fs"
	"syscall"
)

// ownerMode is what a local file is, as the server takes it.
func ownerMode(fi fs.FileInfo) (mode int, uid, gid int64) {
	mode, uid, gid = permissions(fi), -1, -1
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		uid, gid = int64(st.Uid), int64(st.Gid)
	}
	return mode, uid, gid
}
