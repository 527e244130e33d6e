package child

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sett/lxd/host/rlimit"
	"sett/lxd/host/seccomp"
	"sett/lxd/shim"
	"sett/lxd/shim/wire"
)

// byKernel has the kernel answer as if nobody had been asked. What it then does it does
// with the caller's own powers.
var byKernel = seccomp.Answer{Continue: true}

func failed(err error) seccomp.Answer {
	var e syscall.Errno
	if !errors.As(err, &e) {
		e = unix.EPERM
	}
	return seccomp.Answer{Errno: int(e)}
}

// decide answers one call. The caller is hostile: it may be killed, or change its
// memory, at any time. All is read once, and nothing is done before the call has been
// found to be valid after that.
func (i *interceptor) decide(w waiting) seccomp.Answer {
	mem, err := os.OpenFile("/proc/"+strconv.Itoa(w.TID)+"/mem", os.O_RDWR, 0)
	if err != nil {
		return byKernel
	}
	defer mem.Close()
	if !w.valid() { // or the memory is somebody else's
		return byKernel
	}
	call, err := i.req.Calls.Decode(w.Notification, mem)
	if err != nil {
		return failed(err)
	}
	if call == nil {
		return byKernel
	}
	if s, ok := call.(seccomp.Sysinfo); ok {
		b, err := i.sysinfo()
		if err != nil {
			return byKernel
		}
		if s.At == 0 || s.At > 1<<63-1 {
			return seccomp.Answer{Errno: int(unix.EFAULT)}
		}
		if _, err := mem.WriteAt(b, int64(s.At)); err != nil {
			return seccomp.Answer{Errno: int(unix.EFAULT)}
		}
		return seccomp.Answer{}
	}
	c, err := w.caller()
	if err != nil {
		return byKernel
	}
	defer c.close()
	// Only root's powers over the container itself count, not such as a guest's own user
	// namespaces give to everybody.
	if i.userNS != c.userNS || c.caps&(1<<call.Capability()) == 0 {
		return byKernel
	}
	switch call := call.(type) {
	case seccomp.Mknod:
		return i.mknod(w, c, call)
	case seccomp.Setxattr:
		return i.setxattr(w, c, call)
	case seccomp.Sched:
		return i.sched(w, c, call)
	case seccomp.Mount:
		return i.mount(w, c, call)
	}
	return byKernel
}

func (i *interceptor) mknod(w waiting, c *caller, m seccomp.Mknod) seccomp.Answer {
	dir := "cwd"
	if m.Dir != unix.AT_FDCWD && !strings.HasPrefix(m.Path, "/") {
		if m.Dir < 0 {
			return seccomp.Answer{Errno: int(unix.EBADF)}
		}
		dir = "fd/" + strconv.Itoa(m.Dir)
	}
	files, err := c.files("ns/user", "root", dir, "ns/mnt")
	if err != nil {
		return noFile(err)
	}
	var f wire.Fields
	f.Add(wire.TagAct, wire.ActMknod)
	f.Add(wire.TagTarget, m.Path)
	f.AddInt(wire.TagMode, int64(m.Mode))
	f.AddInt(wire.TagMajor, int64(m.Major))
	f.AddInt(wire.TagMinor, int64(m.Minor))
	c.identity(&f)
	return i.act(w, f, files)
}

// noFile is the answer for a descriptor that the caller does not have.
func noFile(err error) seccomp.Answer {
	if errors.Is(err, unix.ENOENT) {
		err = unix.EBADF
	}
	return failed(err)
}

func (i *interceptor) setxattr(w waiting, c *caller, s seccomp.Setxattr) seccomp.Answer {
	dir := "cwd"
	var f wire.Fields
	f.Add(wire.TagAct, wire.ActSetxattr)
	if s.FD >= 0 {
		dir = "fd/" + strconv.Itoa(s.FD)
		f.Add(wire.TagFD, "")
	} else {
		f.Add(wire.TagTarget, s.Path)
	}
	if s.NoFollow {
		f.Add(wire.TagNoFollow, "")
	}
	f.AddInt(wire.TagSet, int64(s.Flags))
	files, err := c.files("ns/user", "root", dir)
	if err != nil {
		return noFile(err)
	}
	c.identity(&f)
	return i.act(w, f, files)
}

func (i *interceptor) sched(w waiting, c *caller, s seccomp.Sched) seccomp.Answer {
	tid := s.TID
	if tid == 0 {
		// The last is what the thread is called where it lives.
		ids := strings.Fields(c.status["NSpid"])
		if len(ids) < 2 {
			return byKernel
		}
		var err error
		if tid, err = strconv.Atoi(ids[len(ids)-1]); err != nil {
			return byKernel
		}
	}
	files, err := c.files("ns/pid")
	if err != nil {
		return failed(err)
	}
	var f wire.Fields
	f.Add(wire.TagAct, wire.ActSched)
	f.AddInt(wire.TagThread, int64(tid))
	f.AddInt(wire.TagPolicy, int64(s.Policy))
	f.AddInt(wire.TagPriority, int64(s.Priority))
	return i.act(w, f, files)
}

func (i *interceptor) mount(w waiting, c *caller, m seccomp.Mount) seccomp.Answer {
	if m.Program != "" {
		return i.program(w, c, m)
	}
	list, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return failed(err)
	}
	known, block := seccomp.Fstype(string(list), m.FS)
	if !known {
		return byKernel
	}
	procs, err := i.joinable()
	if err != nil {
		return failed(err)
	}
	files, err := c.files("ns/user", "root", "cwd", "ns/mnt", "ns/net")
	if err != nil {
		_ = procs.Close()
		return failed(err)
	}
	var f wire.Fields
	f.Add(wire.TagAct, wire.ActMount)
	f.Add(wire.TagTarget, m.Target)
	f.Add(wire.TagSource, m.Source)
	f.Add(wire.TagFS, m.FS)
	f.AddInt(wire.TagSet, int64(m.Flags))
	options, err := i.mountOptions(m)
	if err != nil {
		closeAll(append(files, procs))
		return failed(err)
	}
	if options != "" {
		f.Add(wire.TagOptions, options)
	}
	if block {
		f.Add(wire.TagBlock, "")
	}
	if i.req.Calls.Shift {
		f.Add(wire.TagIdmap, "")
	}
	c.identity(&f)
	return i.act(w, f, append(files, procs))
}

// mountOptions is what the caller wants of a file system, as the host has to say it. The
// kernel reads a page of options at most, and our words stand at their end: what is too
// long for them is refused, or a guest could push them out.
func (i *interceptor) mountOptions(m seccomp.Mount) (string, error) {
	const page = 4096 // the smallest there is
	o, err := i.hostOptions(m)
	if err == nil && len(o) >= page {
		err = unix.EINVAL
	}
	return o, err
}

func (i *interceptor) hostOptions(m seccomp.Mount) (string, error) {
	switch m.FS {
	case "ext2", "ext3", "ext4":
		// A damaged file system may ask for the host's panic. The last word counts.
		return strings.TrimPrefix(m.Data+",errors=remount-ro", ","), nil
	case "hugetlbfs":
		return seccomp.HugetlbOptions(m.Data, func(group bool, id int64) (int64, bool) {
			if group {
				return i.req.IDs.HostGID(id)
			}
			return i.req.IDs.HostUID(id)
		})
	}
	for _, o := range strings.Split(m.Data, ",") {
		if strings.HasSuffix(o, "=panic") { // errors=, fatal_errors=, onerror=
			return "", unix.EINVAL
		}
	}
	return m.Data, nil
}

// joinable opens the way into the group by which the kernel knows which
// devices the container may use.
func (i *interceptor) joinable() (*os.File, error) {
	h := i.layout.Find("devices")
	if h == nil {
		if h = i.layout.V2(); h == nil {
			return nil, unix.EPERM
		}
	}
	dir, err := h.Joinable(i.req.Group)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(h.Entry(dir), os.O_WRONLY, 0)
}

// act sends the actor to work and waits for the outcome. It takes over the files.
func (i *interceptor) act(w waiting, f wire.Fields, files []*os.File) seccomp.Answer {
	defer closeAll(files)
	if !w.valid() {
		return byKernel // nobody waits for it
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return failed(err)
	}
	err = unix.SetNonblock(pair[0], true)
	ours, theirs := os.NewFile(uintptr(pair[0]), "answer"), os.NewFile(uintptr(pair[1]), "answer")
	defer ours.Close()
	defer theirs.Close()
	if err != nil {
		return failed(err)
	}
	fds := []int{int(theirs.Fd())}
	for _, x := range files {
		fds = append(fds, int(x.Fd()))
	}
	err = unix.Sendmsg(wire.FDActor, f, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
	_ = theirs.Close()
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNREFUSED) {
		os.Exit(1) // the actor is gone, and without it we are of no use: somebody new will be
	}
	if err != nil {
		return failed(err)
	}
	var b [4]byte
	if n, err := ours.Read(b[:]); err != nil || n != len(b) {
		return seccomp.Answer{Errno: int(unix.EPERM)}
	}
	return seccomp.Answer{Errno: int(b[0]) | int(b[1])<<8}
}

// shims starts commands in the container, once that is needed.
type shims struct {
	once sync.Once
	shim *shim.Shim
	err  error
}

func (s *shims) get() (*shim.Shim, error) {
	s.once.Do(func() { s.shim, s.err = shim.New("/proc/self/exe") })
	return s.shim, s.err
}

// program has a program of the guest's mount a file system, as the caller would run it.
func (i *interceptor) program(w waiting, c *caller, m seccomp.Mount) seccomp.Answer {
	ctx := context.Background()
	if !c.atRoot() {
		return byKernel // a chroot of the guest's, whose paths mean something else
	}
	s, err := i.shims.get()
	if err != nil {
		return failed(err)
	}
	tgid, err := strconv.Atoi(c.status["Tgid"])
	if err != nil {
		return failed(err)
	}
	pfd, err := unix.PidfdOpen(tgid, 0)
	if err != nil {
		return failed(err)
	}
	hold := os.NewFile(uintptr(pfd), "pidfd")
	defer hold.Close()
	conn, err := shim.Reach(i.req.Socket)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	f, err := i.enter(c, m)
	if err != nil {
		return failed(err)
	}
	if !w.valid() {
		return byKernel
	}
	cmd, err := s.Exec(ctx, f, [3]*os.File{}, hold, conn)
	if err != nil {
		return failed(err)
	}
	code, err := cmd.Wait(ctx)
	switch {
	case err != nil:
		return failed(err)
	case code == 127 || code == 126:
		return seccomp.Answer{Errno: int(unix.ENODEV)} // as for a file system that nobody knows
	case code != 0:
		return seccomp.Answer{Errno: int(unix.EINVAL)}
	}
	return seccomp.Answer{}
}

// atRoot reports whether the caller's root is that of its mount namespace.
func (c *caller) atRoot() bool {
	b, err := c.dir.ReadFile("mountinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		// "36 35 0:30 / /proc rw ...": what the caller can see, from its root
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" {
			return true
		}
	}
	return false
}

// enter is the request for the program: in the caller's namespaces and groups, with no
// more than its ids and capabilities, under its limits, and as near to the kernel's
// choice when memory runs out. This process has all of these of the daemon.
func (i *interceptor) enter(c *caller, m seccomp.Mount) (wire.Fields, error) {
	var f wire.Fields
	for n := range i.layout.Hierarchies {
		h := &i.layout.Hierarchies[n]
		dir, err := h.Joinable(i.req.Group)
		if err != nil {
			return nil, err
		}
		if h.V2 {
			f.Add(wire.TagBirth, dir)
		} else {
			f.Add(wire.TagCgroup, h.Entry(dir))
		}
	}
	f.AddInt(wire.TagFlags, unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWUTS|unix.CLONE_NEWIPC|unix.CLONE_NEWNET|unix.CLONE_NEWCGROUP|unix.CLONE_NEWUSER)
	bounds, err := strconv.ParseUint(c.status["CapBnd"], 16, 64)
	if err != nil {
		return nil, err
	}
	f.Add(wire.TagCaps, strconv.FormatUint(bounds, 10))
	if c.status["NoNewPrivs"] == "1" {
		f.Add(wire.TagNoNew, "")
	}
	label, err := c.label()
	if err != nil {
		return nil, err
	}
	if label != "" {
		f.Add(wire.TagLabel, label)
	}
	filter, err := os.ReadFile(i.req.Filter)
	if err != nil {
		return nil, err
	}
	f.Add(wire.TagSeccomp, string(filter))
	f.Add(wire.TagListen, "")
	cwd, err := os.Readlink(c.path("cwd"))
	if err != nil {
		return nil, err
	}
	f.Add(wire.TagCwd, cwd)
	uid, err1 := strconv.ParseInt(c.field("Uid", 1), 10, 64)
	gid, err2 := strconv.ParseInt(c.field("Gid", 1), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	uid, uok := i.req.IDs.GuestUID(uid)
	gid, gok := i.req.IDs.GuestGID(gid)
	if !uok || !gok {
		return nil, unix.EPERM
	}
	f.AddInt(wire.TagUID, uid)
	f.AddInt(wire.TagGID, gid)
	oom, err := c.dir.ReadFile("oom_score_adj")
	if err != nil {
		return nil, err
	}
	f.Add(wire.TagOOM, strings.TrimSpace(string(oom)))
	limits, err := rlimit.Of(c.tid)
	if err != nil {
		return nil, err
	}
	for _, l := range limits {
		f.Add(wire.TagRlimit, l.String())
	}
	f.Add(wire.TagEnv, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	f.Add(wire.TagArg, m.Program)
	f.Add(wire.TagArg, m.Source)
	f.Add(wire.TagArg, m.Target)
	if o := m.Options(); o != "" {
		f.Add(wire.TagArg, "-o")
		f.Add(wire.TagArg, o)
	}
	return f, nil
}
