package seccomp

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Call is what a guest asks for and may have; one of the types below.
type Call interface {
	// Capability is what the caller must have in the container, as its number.
	Capability() int
}

// Mknod makes the node of a device that every container has.
type Mknod struct {
	Dir          int // descriptor that a relative path starts from, or AT_FDCWD
	Path         string
	Mode         uint32
	Major, Minor uint32
}

// Setxattr marks a folder as opaque for overlayfs.
type Setxattr struct {
	Path     string
	FD       int // in place of the path, where it is -1 or more
	NoFollow bool
	Flags    int
}

// Sched puts a thread into a real-time class.
type Sched struct {
	TID      int // in the caller's pid namespace; zero: itself
	Policy   int
	Priority int
}

// Mount mounts a file system.
type Mount struct {
	Source, Target, FS string
	Flags              uint32
	Data               string
	Program            string // of the guest's, that does it; empty: the kernel
}

// Sysinfo wants to know what memory there is.
type Sysinfo struct{ At uint64 }

const (
	capSysAdmin = 21
	capSysNice  = 23
	capMknod    = 27
)

func (Mknod) Capability() int    { return capMknod }
func (Setxattr) Capability() int { return capSysAdmin }
func (Sched) Capability() int    { return capSysNice }
func (Mount) Capability() int    { return capSysAdmin }
func (Sysinfo) Capability() int  { return -1 }

// OpaqueName and OpaqueValue are the one mark that Setxattr sets.
const (
	OpaqueName  = "trusted.overlay.opaque"
	OpaqueValue = "y"
)

// devices are harmless to whoever opens them, and in every container's /dev: null,
// zero, full, random, urandom, tty. The one without a number hides files of lower
// layers from overlayfs; nobody can open it.
var devices = [][2]uint32{{0, 0}, {1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}}

// Decode reads a call's arguments out of the caller's memory. Without a call the kernel
// shall answer itself: it is none that we were asked to make, or one to which the
// kernel has the better answer. The memory changes under us as the guest likes, so
// that what is returned here is all that may be acted upon.
func (i Intercept) Decode(n Notification, mem io.ReaderAt) (Call, error) {
	if n.Arch != nativeArch {
		return nil, nil
	}
	a := n.Args
	switch {
	case i.Mknod && n.Nr == nrMknod:
		return decodeMknod(mem, unix.AT_FDCWD, a[0], a[1], a[2])
	case i.Mknod && n.Nr == unix.SYS_MKNODAT:
		return decodeMknod(mem, int(int32(a[0])), a[1], a[2], a[3])
	case i.Setxattr && (n.Nr == unix.SYS_SETXATTR || n.Nr == unix.SYS_LSETXATTR || n.Nr == unix.SYS_FSETXATTR):
		return decodeSetxattr(mem, n)
	case i.Sched && n.Nr == unix.SYS_SCHED_SETSCHEDULER:
		return decodeSched(mem, a)
	case i.Sysinfo && n.Nr == unix.SYS_SYSINFO:
		return Sysinfo{At: a[0]}, nil
	case i.Mount && n.Nr == unix.SYS_MOUNT:
		return i.decodeMount(mem, a)
	}
	return nil, nil
}

func decodeMknod(mem io.ReaderAt, dir int, path, mode, dev uint64) (Call, error) {
	m := Mknod{Dir: dir, Mode: uint32(mode) & (modeKind | 0o7777), Major: unix.Major(dev & 0xffffffff), Minor: unix.Minor(dev & 0xffffffff)}
	if m.Mode&modeKind != modeChar || !slices.Contains(devices, [2]uint32{m.Major, m.Minor}) {
		return nil, nil
	}
	var err error
	m.Path, err = text(mem, path, unix.PathMax)
	return m, err
}

func decodeSetxattr(mem io.ReaderAt, n Notification) (Call, error) {
	a := n.Args
	if a[3] != uint64(len(OpaqueValue)) {
		return nil, nil
	}
	name, err := text(mem, a[1], 256)
	if err != nil || name != OpaqueName {
		return nil, nil // the kernel has the error too
	}
	value := make([]byte, len(OpaqueValue))
	if err := read(mem, a[2], value); err != nil || string(value) != OpaqueValue {
		return nil, nil
	}
	s := Setxattr{FD: -1, NoFollow: n.Nr == unix.SYS_LSETXATTR, Flags: int(int32(a[4]))}
	if n.Nr == unix.SYS_FSETXATTR {
		s.FD = int(int32(a[0]))
		if s.FD < 0 {
			return nil, unix.EBADF
		}
		return s, nil
	}
	s.Path, err = text(mem, a[0], unix.PathMax)
	return s, err
}

// The real-time classes, and the flag that keeps children out of them.
const (
	schedFIFO, schedRR = 1, 2
	schedResetOnFork   = 0x40000000
)

func decodeSched(mem io.ReaderAt, a [6]uint64) (Call, error) {
	s := Sched{TID: int(int32(a[0])), Policy: int(int32(a[1]))}
	if class := s.Policy &^ schedResetOnFork; class != schedFIFO && class != schedRR || s.TID < 0 {
		return nil, nil
	}
	prio := make([]byte, 4)
	if err := read(mem, a[2], prio); err != nil {
		return nil, err
	}
	s.Priority = int(int32(uint32(prio[0]) | uint32(prio[1])<<8 | uint32(prio[2])<<16 | uint32(prio[3])<<24))
	return s, nil
}

func (i Intercept) decodeMount(mem io.ReaderAt, a [6]uint64) (Call, error) {
	m := Mount{Flags: uint32(a[3])}
	if m.Flags&mountMagicAll == mountMagic {
		m.Flags &^= mountMagicAll
	}
	if m.Flags&otherMount != 0 || a[2] == 0 {
		return nil, nil
	}
	var err error
	if m.FS, err = text(mem, a[2], 64); err != nil {
		return nil, nil
	}
	m.Program = i.FUSE[m.FS]
	if m.Program == "" && !slices.Contains(i.Allowed, m.FS) {
		return nil, nil
	}
	if m.Target, err = text(mem, a[1], unix.PathMax); err != nil {
		return nil, err
	}
	if a[0] != 0 {
		if m.Source, err = text(mem, a[0], unix.PathMax); err != nil {
			return nil, err
		}
	}
	if a[4] != 0 {
		if m.Data, err = text(mem, a[4], unix.PathMax); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Fstype tells from the contents of /proc/filesystems whether the kernel knows a file
// system, and whether it lies on a block device.
func Fstype(list, fs string) (known, onBlock bool) {
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == fs {
			return true, len(f) == 1
		}
	}
	return false, false
}

// text reads a string that ends in zero. The page after its last may not be there.
func text(mem io.ReaderAt, at uint64, most int) (string, error) {
	const page = 4096
	var out []byte
	for len(out) <= most {
		b := make([]byte, page-(at+uint64(len(out)))%page)
		if err := read(mem, at+uint64(len(out)), b); err != nil {
			return "", err
		}
		if end := bytes.IndexByte(b, 0); end >= 0 {
			if out = append(out, b[:end]...); len(out) < most {
				return string(out), nil
			}
			break
		}
		out = append(out, b...)
	}
	return "", unix.ENAMETOOLONG
}

func read(mem io.ReaderAt, at uint64, b []byte) error {
	if at == 0 || at > 1<<63-1-uint64(len(b)) {
		return unix.EFAULT
	}
	if n, _ := mem.ReadAt(b, int64(at)); n < len(b) {
		return unix.EFAULT
	}
	return nil
}
