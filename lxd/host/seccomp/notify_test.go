package seccomp

import (
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// What Linux 6.18 on x86-64 said when a program made these calls.
const (
	// mknodat(AT_FDCWD, 0x7f9e314bcec0, S_IFCHR|0666, makedev(1, 3))
	recordedMknodat = "787dc6e28b496e031332000000000000030100003e0000c029f8b1319e7f00009cffffffffffffffc0ce4b319e7f0000b62100000000000003010000000000008e773c319e7f00000600000000000000"
	// mknod(0x7f9e314bcec0, S_IFCHR|0666, makedev(1, 3))
	recordedMknod = "cb89381047c14c8e1532000000000000850000003e0000c029f8b1319e7f0000c0ce4b319e7f0000b6210000000000000301000000000000000000000000000000b44b770cab8d650600000000000000"
	// mount(0x7f9e314bd280, ...d2e0, ...d340, MS_MGC_VAL|MS_RDONLY, ...d3d0)
	recordedMount = "031159e1f246c44b1632000000000000a50000003e0000c029f8b1319e7f000080d24b319e7f0000e0d24b319e7f000040d34b319e7f00000100edc0ffffffffd0d34b319e7f00000600000000000000"
	// setxattr(0x7f9e314bd550, 0x7f9e314b5750, 0x7f9e32151fa0, 1, 0)
	recordedSetxattr = "b67aafc38f1b34161832000000000000bc0000003e0000c029f8b1319e7f000050d54b319e7f000050574b319e7f0000a01f15329e7f0000010000000000000000000000000000000600000000000000"
	// sched_setscheduler(0, SCHED_FIFO, 0x7f9e314bbc50)
	recordedSched = "1cad849b13105fbb1a32000000000000900000003e0000c029f8b1319e7f00000000000000000000010000000000000050bc4b319e7f0000000000000000000000b44b770cab8d650600000000000000"
)

func recorded(t *testing.T, s string) Notification {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	n, err := ParseNotification(b)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// memory is what a caller has at some addresses. The pages around are not there.
type memory map[uint64]string

func (m memory) ReadAt(b []byte, at int64) (int, error) {
	const page = 4096
	for addr, s := range m {
		if uint64(at) < addr || uint64(at) >= addr+uint64(len(s)) {
			if uint64(at)/page != addr/page {
				continue
			}
		}
		// The page holds zeros beside the text.
		end := (addr + uint64(len(s)) + page - 1) / page * page
		if uint64(at)+uint64(len(b)) > end {
			return 0, unix.EIO
		}
		for i := range b {
			b[i] = 0
			if o := uint64(at) + uint64(i); o >= addr && o-addr < uint64(len(s)) {
				b[i] = s[o-addr]
			}
		}
		return len(b), nil
	}
	return 0, unix.EIO
}

var everything = Intercept{Mknod: true, Setxattr: true, Sched: true, Sysinfo: true, Mount: true, Allowed: []string{"ext4"}, FUSE: map[string]string{"xfs": "xfsfuse"}}

func TestRecordedCallsAreUnderstood(t *testing.T) {
	t.Parallel()
	if nativeArch != unix.AUDIT_ARCH_X86_64 {
		t.Skip("recorded on x86-64")
	}
	at := memory{0x7f9e314bcec0: "/tmp/x\x00"}
	// One page holds all of them; a text in it begins where the last one ends.
	page := make([]byte, 0x200)
	for o, s := range map[int]string{0x80: "/dev/sda", 0xe0: "/mnt", 0x140: "ext4", 0x1d0: "data=ordered"} {
		copy(page[o:], s)
	}
	mount := memory{0x7f9e314bd200: string(page)}
	for name, c := range map[string]struct {
		bytes string
		mem   memory
		want  Call
	}{
		"mknodat": {recordedMknodat, at, Mknod{Dir: unix.AT_FDCWD, Path: "/tmp/x", Mode: 0o020666, Major: 1, Minor: 3}},
		"mknod":   {recordedMknod, at, Mknod{Dir: unix.AT_FDCWD, Path: "/tmp/x", Mode: 0o020666, Major: 1, Minor: 3}},
		"mount":   {recordedMount, mount, Mount{Source: "/dev/sda", Target: "/mnt", FS: "ext4", Flags: 1, Data: "data=ordered"}},
		"setxattr": {recordedSetxattr, memory{0x7f9e314bd550: "/d\x00", 0x7f9e314b5750: OpaqueName + "\x00", 0x7f9e32151fa0: "y"},
			Setxattr{Path: "/d", FD: -1}},
		"sched": {recordedSched, memory{0x7f9e314bbc50: "\x05\x00\x00\x00"}, Sched{Policy: 1, Priority: 5}},
	} {
		n := recorded(t, c.bytes)
		if n.ID == 0 || n.TID>>8 != 0x32 {
			t.Errorf("%s: %+v", name, n)
		}
		if again, err := ParseNotification(n.Bytes()); err != nil || again != n {
			t.Errorf("%s: written and read again: %+v, %v", name, again, err)
		}
		got, err := everything.Decode(n, c.mem)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if got, err := (Intercept{}).Decode(n, c.mem); got != nil || err != nil {
			t.Errorf("%s: answered though nobody asked for it: %+v, %v", name, got, err)
		}
		old := n
		old.Arch = unix.AUDIT_ARCH_I386
		if got, _ := everything.Decode(old, c.mem); got != nil {
			t.Errorf("%s: a call of 32 bits was taken for one of 64: %+v", name, got)
		}
		if got, err := everything.Decode(n, memory{}); name != "setxattr" && name != "mount" && !errors.Is(err, unix.EFAULT) {
			t.Errorf("%s: without memory: %+v, %v", name, got, err)
		}
	}
}

func TestOnlyHarmlessCallsAreMade(t *testing.T) {
	t.Parallel()
	const path, other = 0x10000, 0x20000
	mem := memory{path: "x\x00", other: OpaqueName + "\x00", 0x30000: "y", 0x40000: "n", 0x50000: "ext4\x00", 0x60000: "xfs\x00", 0x70000: "overlay\x00"}
	mknod := func(mode, dev uint64) Notification {
		return Notification{Nr: unix.SYS_MKNODAT, Arch: nativeArch, Args: [6]uint64{^uint64(99), path, mode, dev}}
	}
	mount := func(flags, fs uint64) Notification {
		return Notification{Nr: unix.SYS_MOUNT, Arch: nativeArch, Args: [6]uint64{path, path, fs, flags}}
	}
	xattr := func(value, size uint64) Notification {
		return Notification{Nr: unix.SYS_SETXATTR, Arch: nativeArch, Args: [6]uint64{path, other, value, size}}
	}
	sched := func(policy uint64) Notification {
		return Notification{Nr: unix.SYS_SCHED_SETSCHEDULER, Arch: nativeArch, Args: [6]uint64{0, policy, path}}
	}
	for name, c := range map[string]struct {
		n  Notification
		ok bool
	}{
		"null":              {mknod(0o020666, 0x103), true},
		"whiteout":          {mknod(0o020000, 0), true},
		"null as a disk":    {mknod(0o060666, 0x103), false},
		"memory":            {mknod(0o020666, 0x101), false},
		"a disk":            {mknod(0o060666, 0x700), false},
		"a fifo":            {mknod(0o010666, 0x103), false},
		"fuse":              {mknod(0o020666, 0x10ae5), false},
		"high bits":         {mknod(0o020666, 0x1_0000_0103), true}, // the kernel takes 32
		"ext4":              {mount(0, 0x50000), true},
		"by a program":      {mount(0, 0x60000), true},
		"another":           {mount(0, 0x70000), false},
		"remount":           {mount(unix.MS_REMOUNT, 0x50000), false},
		"bind":              {mount(unix.MS_BIND, 0x50000), false},
		"private":           {mount(unix.MS_PRIVATE, 0x50000), false},
		"shared":            {mount(unix.MS_SHARED, 0x50000), false},
		"magic":             {mount(0xc0ed0000, 0x50000), true},
		"magic and a bind":  {mount(0xc0ed0000|unix.MS_BIND, 0x50000), false},
		"no type":           {mount(0, 0), false},
		"opaque":            {xattr(0x30000, 1), true},
		"another value":     {xattr(0x40000, 1), false},
		"a longer value":    {xattr(0x30000, 2), false},
		"fifo class":        {sched(1), true},
		"rr, reset on fork": {sched(2 | schedResetOnFork), true},
		"usual class":       {sched(0), false},
		"deadline":          {sched(6), false},
	} {
		if name == "usual class" || name == "fifo class" || name == "rr, reset on fork" || name == "deadline" {
			mem[path] = "x\x00\x00\x00"
		}
		got, err := everything.Decode(c.n, mem)
		if err != nil || (got != nil) != c.ok {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestTextEndsOrIsRefused(t *testing.T) {
	t.Parallel()
	long := make([]byte, 3*4096)
	for i := range long {
		long[i] = 'a'
	}
	m := memory{4096*10 - 3: "abc"} // the next page is not there
	if s, err := text(m, 4096*10-3, 100); !errors.Is(err, unix.EFAULT) {
		t.Errorf("%q, %v", s, err)
	}
	m = memory{4096*10 - 4: "abc\x00"}
	if s, err := text(m, 4096*10-4, 100); err != nil || s != "abc" {
		t.Errorf("%q, %v", s, err)
	}
	m = memory{4096 * 20: string(long)}
	if s, err := text(m, 4096*20+5, unix.PathMax); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("%d bytes, %v", len(s), err)
	}
	if _, err := text(m, 1<<63, 100); !errors.Is(err, unix.EFAULT) {
		t.Error(err)
	}
	if _, err := text(m, ^uint64(0)-2, 100); !errors.Is(err, unix.EFAULT) {
		t.Error(err)
	}
}

func TestAnswersAreLaidOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a    Answer
		want string
	}{
		{Answer{}, "080706050403020100000000000000000000000000000000"},
		{Answer{Errno: 1}, "08070605040302010000000000000000ffffffff00000000"},
		{Answer{Continue: true}, "080706050403020100000000000000000000000001000000"},
	} {
		if got := hex.EncodeToString(c.a.Bytes(0x0102030405060708)); got != c.want {
			t.Errorf("%+v: %s", c.a, got)
		}
	}
	if _, err := ParseNotification(make([]byte, NotificationSize-1)); err == nil {
		t.Error("half a notification was read")
	}
	if _, err := ParseNotification(make([]byte, NotificationSize)); err == nil {
		t.Error("one of a process that cannot be seen was read")
	}
}

// Whatever a guest asks, the answer is a call, an errno or nothing, and no panic.
func TestAnyNotificationIsBorne(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	calls := []int{nrMknod, unix.SYS_MKNODAT, unix.SYS_MOUNT, unix.SYS_SETXATTR, unix.SYS_FSETXATTR, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SYSINFO, 0}
	mem := memory{0x1000: "ext4\x00", 0x3000: "trusted.overlay.opaque\x00"}
	for range 20000 {
		n := Notification{Nr: calls[r.IntN(len(calls))], Arch: nativeArch}
		for i := range n.Args {
			n.Args[i] = r.Uint64() >> r.IntN(64)
			if r.IntN(2) == 0 {
				n.Args[i] = 0x1000 * uint64(r.IntN(5))
			}
		}
		if c, err := everything.Decode(n, mem); err != nil {
			var e unix.Errno
			if !errors.As(err, &e) {
				t.Fatalf("%+v: %+v, %v", n, c, err)
			}
		}
	}
}

var _ io.ReaderAt = memory{}
