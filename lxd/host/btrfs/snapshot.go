package btrfs

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lookEvery is how often SnapshotHeld looks whether the snapshot has been taken.
const lookEvery = 500 * time.Microsecond

// SnapshotHeld makes a snapshot of src while nobody writes to it: quiet stops them, and
// what it returns lets them go on.
//
// The call of the kernel returns when the snapshot is on the disk, which takes most of
// its time. What is in it is settled much earlier: when its root has been copied and is
// named in the tree of roots. Who writes after that writes to the original alone.
func (d Dir) SnapshotHeld(name string, src Dir, readOnly bool, quiet func() (resume func(), err error)) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.FD(), &st); err != nil {
		return err
	}
	id, err := d.ID()
	if err != nil {
		return err
	}
	have, err := d.Children(id)
	if err != nil {
		return err
	}
	var last uint64
	for _, c := range have {
		last = max(last, c.ID)
	}
	resume, err := quiet()
	if err != nil {
		return err
	}
	resume = sync.OnceFunc(resume)
	defer resume()
	done := make(chan error, 1)
	go func() { done <- d.Snapshot(name, src, readOnly) }()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-look.C:
		}
		more, err := d.childrenFrom(id, last+1)
		if err != nil {
			continue // the call itself tells what is wrong
		}
		for _, c := range more {
			if c.Inode == st.Ino && c.Name == name {
				resume()
				return <-done
			}
		}
	}
}
