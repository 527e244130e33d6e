package idmap

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Blocked finds the folder that a user of the host may not pass through on the way to
// path; "" when the way is free. The kernel is asked as that user, so that ACLs count.
func Blocked(path string, uid, gid int64) (string, error) {
	type answer struct {
		folder string
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		// The ids for access to files are a thread's own. A thread that did not get its
		// own back ends with this goroutine.
		runtime.LockOSThread()
		folder, err := blockedFor(path, int(uid), int(gid))
		back := become(0, 0)
		if back == nil {
			runtime.UnlockOSThread()
		}
		done <- answer{folder, errors.Join(err, back)}
	}()
	a := <-done
	return a.folder, a.err
}

func become(uid, gid int) error {
	// They tell the one before; what came of it, only the next call.
	_, _ = unix.SetfsgidRetGid(gid)
	_, _ = unix.SetfsuidRetUid(uid)
	g, _ := unix.SetfsgidRetGid(-1)
	u, _ := unix.SetfsuidRetUid(-1)
	if g != gid || u != uid {
		return fmt.Errorf("take on the ids %d and %d for looking at files", uid, gid)
	}
	return nil
}

func blockedFor(path string, uid, gid int) (string, error) {
	path = filepath.Clean(path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := become(uid, gid); err != nil {
		return "", err
	}
	at := "/"
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		next := filepath.Join(at, name)
		var st unix.Stat_t
		switch err := unix.Lstat(next, &st); {
		case errors.Is(err, unix.EACCES):
			return at, nil
		case err != nil:
			return "", nil // not there: somebody else's matter
		}
		at = next
	}
	var st unix.Stat_t
	if err := unix.Lstat(at+"/.", &st); errors.Is(err, unix.EACCES) { // into the last one
		return at, nil
	}
	return "", nil
}
