// Package btrfs speaks to btrfs file systems by ioctl: subvolumes, snapshots, limits
// and usage. Only making a file system runs a program.
//
// Numbers and layouts are those of linux/btrfs.h and linux/btrfs_tree.h.
package btrfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	iocSnapCreate    = 0x50009401
	iocResize        = 0x50009403
	iocSubvolCreate  = 0x5000940e
	iocTreeSearchV2  = 0xc0709411
	iocInoLookup     = 0xd0009412
	iocSnapCreateV2  = 0x50009417
	iocSubvolCreate2 = 0x50009418
	iocGetFlags      = 0x80089419
	iocSetFlags      = 0x4008941a
	iocQuotaCtl      = 0xc0109428
	iocQgroupCreate  = 0x4010942a
	iocQgroupLimit   = 0x8030942b
	iocRescanStatus  = 0x8040942d
	iocSnapDestroy2  = 0x5000943f
)

const (
	superMagic     = 0x9123683e
	firstFree      = 256 // inode of a subvolume's root
	treeRoots      = 1
	treeQuota      = 8
	typeRootItem   = 132
	typeRootRef    = 156
	typeQgroupInfo = 242
	typeQgroupLim  = 244
	subvolReadOnly = 1 << 1
	limitRefer     = 1 << 0
	quotaEnable    = 1
	quotaSimple    = 4
)

// SubvolumeCalls are the ioctls by which subvolumes come to be, old and new.
func SubvolumeCalls() []uint32 {
	return []uint32{iocSnapCreate, iocSubvolCreate, iocSnapCreateV2, iocSubvolCreate2}
}

// args is struct btrfs_ioctl_vol_args_v2 with a name in it.
type args struct {
	fd      int64
	transid uint64
	flags   uint64
	unused  [4]uint64
	name    [4040]byte
}

func ioctl(fd int, req uint, p unsafe.Pointer) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(p))
		if e == unix.EINTR {
			continue
		}
		runtime.KeepAlive(p)
		if e != 0 {
			return e
		}
		return nil
	}
}

// Dir is an open folder on a btrfs file system.
type Dir struct{ f *os.File }

// Open opens a folder. The path itself is not followed if it is a link.
func Open(path string) (Dir, error) { return OpenAt(unix.AT_FDCWD, path) }

// OpenAt opens a folder by its name in another one.
func OpenAt(dir int, name string) (Dir, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return Dir{}, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return Dir{os.NewFile(uintptr(fd), name)}, nil
}

// Close closes the folder.
func (d Dir) Close() error { return d.f.Close() }

// FD is the folder's descriptor, good until Close.
func (d Dir) FD() int { return int(d.f.Fd()) }

func (d Dir) do(what string, req uint, p unsafe.Pointer) error {
	if err := ioctl(d.FD(), req, p); err != nil {
		return &os.PathError{Op: what, Path: d.f.Name(), Err: err}
	}
	return nil
}

func (d Dir) named(what string, req uint, name string, fd int, flags uint64) error {
	a := args{fd: int64(fd), flags: flags}
	if len(name) >= len(a.name) {
		return unix.ENAMETOOLONG
	}
	copy(a.name[:], name)
	if err := ioctl(d.FD(), req, unsafe.Pointer(&a)); err != nil {
		return &os.PathError{Op: what, Path: d.f.Name() + "/" + name, Err: err}
	}
	return nil
}

// Create makes an empty subvolume in the folder.
func (d Dir) Create(name string) error {
	return d.named("create subvolume", iocSubvolCreate2, name, 0, 0)
}

// Snapshot makes a snapshot of the subvolume src in the folder.
func (d Dir) Snapshot(name string, src Dir, readOnly bool) error {
	var flags uint64
	if readOnly {
		flags = subvolReadOnly
	}
	return d.named("create snapshot", iocSnapCreateV2, name, src.FD(), flags)
}

// Destroy removes a subvolume, which must have none inside, from the folder. Its
// room comes back in the background.
func (d Dir) Destroy(name string) error {
	return d.named("delete subvolume", iocSnapDestroy2, name, 0, 0)
}

// SetReadOnly seals or unseals the subvolume.
func (d Dir) SetReadOnly(on bool) error {
	var flags uint64
	if err := d.do("get flags", iocGetFlags, unsafe.Pointer(&flags)); err != nil {
		return err
	}
	want := flags &^ subvolReadOnly
	if on {
		want |= subvolReadOnly
	}
	if want == flags {
		return nil
	}
	return d.do("set flags", iocSetFlags, unsafe.Pointer(&want))
}

// IsBtrfs reports whether the folder is on a btrfs file system.
func (d Dir) IsBtrfs() (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(d.FD(), &fs); err != nil {
		return false, err
	}
	return fs.Type == superMagic, nil
}

type inoLookup struct {
	treeid   uint64
	objectid uint64
	name     [4080]byte
}

// ID is the number of the subvolume that the folder is in.
func (d Dir) ID() (uint64, error) {
	l := inoLookup{objectid: firstFree}
	err := d.do("look up subvolume", iocInoLookup, unsafe.Pointer(&l))
	return l.treeid, err
}

// Grow makes the file system as large as its device.
func (d Dir) Grow() error {
	var a struct { // struct btrfs_ioctl_vol_args, the older kind
		fd   int64
		name [4088]byte
	}
	copy(a.name[:], "max")
	return d.do("resize", iocResize, unsafe.Pointer(&a))
}

// item is one hit of a tree search.
type item struct {
	objectid, offset uint64
	typ              uint32
	data             []byte
}

type searchKey struct {
	tree               uint64
	minObj, maxObj     uint64
	minOff, maxOff     uint64
	minTrans, maxTrans uint64
	minType, maxType   uint32
	items, _           uint32
	_, _, _, _         uint64
	bufSize            uint64
	buf                [64 << 10]byte
}

// search walks a tree from key (obj, typ, 0) to (maxObj, typ, max) and calls f for
// items of the type.
func (d Dir) search(tree, obj, maxObj uint64, typ, maxType uint32, f func(item)) error {
	return d.searchFrom(tree, obj, maxObj, typ, maxType, 0, f)
}

// searchFrom is search from an offset on.
func (d Dir) searchFrom(tree, obj, maxObj uint64, typ, maxType uint32, offset uint64, f func(item)) error {
	k := &searchKey{
		tree: tree, minObj: obj, maxObj: maxObj, minOff: offset, maxOff: ^uint64(0), maxTrans: ^uint64(0),
		minType: typ, maxType: maxType,
	}
	for {
		k.items, k.bufSize = 1<<16, uint64(len(k.buf))
		if err := d.do("search", iocTreeSearchV2, unsafe.Pointer(k)); err != nil {
			return err
		}
		if k.items == 0 {
			return nil
		}
		b := k.buf[:]
		var last item
		for range k.items {
			h := b[:32]
			n := binary.NativeEndian.Uint32(h[28:])
			last = item{
				objectid: binary.NativeEndian.Uint64(h[8:]), offset: binary.NativeEndian.Uint64(h[16:]),
				typ: binary.NativeEndian.Uint32(h[24:]), data: b[32 : 32+n],
			}
			// The range is one of whole keys, so other types turn up between.
			if last.typ >= typ && last.typ <= maxType {
				f(last)
			}
			b = b[32+n:]
		}
		// The next key after the last one.
		k.minObj, k.minType, k.minOff = last.objectid, last.typ, last.offset+1
		if k.minOff == 0 {
			k.minType++
		}
	}
}

// Child is a subvolume that hangs in a folder of another one.
type Child struct {
	ID    uint64
	Inode uint64 // of the folder
	Name  string
}

// Children lists the subvolumes directly inside the subvolume id.
func (d Dir) Children(id uint64) ([]Child, error) { return d.childrenFrom(id, 0) }

// childrenFrom lists those whose ids are no less than from.
func (d Dir) childrenFrom(id, from uint64) ([]Child, error) {
	var out []Child
	err := d.searchFrom(treeRoots, id, id, typeRootRef, typeRootRef, from, func(i item) {
		if len(i.data) < 18 {
			return
		}
		// struct btrfs_root_ref: dirid, sequence, name_len, name; little endian on disk.
		n := int(binary.LittleEndian.Uint16(i.data[16:]))
		if 18+n > len(i.data) {
			return
		}
		out = append(out, Child{ID: i.offset, Inode: binary.LittleEndian.Uint64(i.data), Name: string(i.data[18 : 18+n])})
	})
	return out, err
}

// Usage is what a subvolume refers to and may refer to.
type Usage struct {
	Referred uint64
	Limit    uint64 // 0: none
}

// Quotas reads usage and limits of all subvolumes at once. ErrNoQuota: quotas are off.
func (d Dir) Quotas() (map[uint64]Usage, error) {
	out := map[uint64]Usage{}
	err := d.search(treeQuota, 0, 0, typeQgroupInfo, typeQgroupLim, func(i item) { addQuota(out, i) })
	if errors.Is(err, unix.ENOENT) {
		return nil, ErrNoQuota
	}
	return out, err
}

// Quota is Quotas for one subvolume.
func (d Dir) Quota(id uint64) (Usage, error) {
	out := map[uint64]Usage{}
	for _, typ := range []uint32{typeQgroupInfo, typeQgroupLim} {
		err := d.one(treeQuota, 0, typ, id, func(i item) { addQuota(out, i) })
		if errors.Is(err, unix.ENOENT) {
			return Usage{}, ErrNoQuota
		}
		if err != nil {
			return Usage{}, err
		}
	}
	return out[id], nil
}

// Limited reports whether the subvolume that the folder is in has a limit.
func (d Dir) Limited() (bool, error) {
	id, err := d.ID()
	if err != nil {
		return false, err
	}
	q, err := d.Quota(id)
	if errors.Is(err, ErrNoQuota) {
		return false, nil
	}
	return q.Limit > 0, err
}

func addQuota(m map[uint64]Usage, i item) {
	u := m[i.offset]
	switch {
	case i.typ == typeQgroupInfo && len(i.data) >= 16:
		u.Referred = binary.LittleEndian.Uint64(i.data[8:])
	case i.typ == typeQgroupLim && len(i.data) >= 16:
		if binary.LittleEndian.Uint64(i.data)&limitRefer != 0 {
			if l := binary.LittleEndian.Uint64(i.data[8:]); l != ^uint64(0) {
				u.Limit = l
			}
		}
	}
	m[i.offset] = u
}

// one finds a single key.
func (d Dir) one(tree, obj uint64, typ uint32, off uint64, f func(item)) error {
	k := &searchKey{
		tree: tree, minObj: obj, maxObj: obj, minOff: off, maxOff: off, maxTrans: ^uint64(0),
		minType: typ, maxType: typ, items: 1,
	}
	k.bufSize = uint64(len(k.buf))
	if err := d.do("search", iocTreeSearchV2, unsafe.Pointer(k)); err != nil {
		return err
	}
	if k.items == 0 {
		return nil
	}
	h := k.buf[:32]
	n := binary.NativeEndian.Uint32(h[28:])
	f(item{obj, off, typ, k.buf[32 : 32+n]})
	return nil
}

// ErrNoQuota is returned where quotas are not enabled.
var ErrNoQuota = errors.New("quotas are not enabled on the file system")

type limitArgs struct {
	id                             uint64
	flags                          uint64
	refer, excl, rsvRefer, rsvExcl uint64
}

// SetLimit limits what the subvolume id refers to; 0 takes the limit away.
func (d Dir) SetLimit(id, bytes uint64) error {
	a := limitArgs{id: id, flags: limitRefer, refer: bytes}
	if bytes == 0 {
		a.refer = ^uint64(0)
	}
	err := d.do("limit subvolume", iocQgroupLimit, unsafe.Pointer(&a))
	if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.EINVAL) {
		return ErrNoQuota
	}
	return err
}

// EnableSimpleQuota switches on the kind of quotas in which data belongs to the
// subvolume that wrote it, whoever shares it later. Counting costs next to nothing,
// where the older kind walks through all snapshots of a changed block. It is for
// Linux 6.7 and later; others cannot mount such a file system.
func (d Dir) EnableSimpleQuota() error {
	a := struct{ cmd, status uint64 }{cmd: quotaSimple}
	return d.do("enable simple quotas", iocQuotaCtl, unsafe.Pointer(&a))
}

// EnableQuota switches quotas on and waits until what is there has been counted, which
// on a large file system takes longer than anybody wants to wait: ctx bounds it, and
// the counting goes on behind.
func (d Dir) EnableQuota(ctx context.Context) error {
	a := struct{ cmd, status uint64 }{cmd: quotaEnable}
	if err := d.do("enable quotas", iocQuotaCtl, unsafe.Pointer(&a)); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		counting, err := d.Counting()
		if err != nil || !counting {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("wait for the count of usage: %w", ctx.Err())
		case <-t.C:
		}
	}
}

// Counting reports whether the file system is being counted for its quotas.
func (d Dir) Counting() (bool, error) {
	var a struct {
		flags, progress uint64
		_               [6]uint64
	}
	err := d.do("look at the count of usage", iocRescanStatus, unsafe.Pointer(&a))
	return a.flags != 0, err
}

// DropStaleLimits removes the accounts of subvolumes that are gone, which kernels
// before 6.11 keep for ever.
func (d Dir) DropStaleLimits() error {
	all, err := d.Quotas()
	if errors.Is(err, ErrNoQuota) {
		return nil
	}
	if err != nil {
		return err
	}
	err = d.search(treeRoots, firstFree, ^uint64(255), typeRootItem, typeRootItem, func(i item) { delete(all, i.objectid) })
	if err != nil {
		return err
	}
	for id := range all {
		if id < firstFree || id>>48 != 0 {
			continue // the file system itself, and groups that somebody made
		}
		a := struct{ create, id uint64 }{0, id}
		// Busy ones are being cleaned up still; the next start finds them.
		_ = d.do("remove account", iocQgroupCreate, unsafe.Pointer(&a))
	}
	return nil
}
