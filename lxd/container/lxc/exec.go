package lxc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/host/process"
	"sett/lxd/host/rlimit"
	"sett/lxd/shim"
	"sett/lxd/shim/wire"
	"sett/shared/errs"
)

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// Exec implements container.Process. What init runs under, the command does too:
// cgroups, namespaces, capabilities, seccomp filter, AppArmor profile, limits.
func (p *proc) Exec(ctx context.Context, s container.ExecSpec) (container.Exec, error) {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return nil, errs.Invalid("A command is needed to execute something in %s", p.g.id)
	}
	for _, v := range append(append([]string{s.Cwd}, s.Command...), s.Env...) {
		if strings.ContainsRune(v, 0) {
			return nil, errs.Invalid("Command and environment cannot hold zero bytes")
		}
	}
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	if frozen, err := p.g.group.Frozen(); err == nil && frozen {
		return nil, errs.Invalid("Container %s is frozen; unfreeze it first", p.g.id)
	}
	req, err := p.g.enter(s)
	if err != nil {
		return nil, p.ending(err)
	}
	stdio := [3]*os.File{s.Stdin, s.Stdout, s.Stderr}
	x := &execution{}
	if s.PTY {
		master, slave, err := p.g.openPTY(ctx, s)
		if err != nil {
			return nil, p.ending(err)
		}
		defer slave.Close()
		if x.term, err = newTerminal(master); err != nil {
			return nil, err
		}
		stdio = [3]*os.File{slave, slave, slave}
	} else {
		p.g.own(stdio[:], s)
	}
	var listener *os.File
	if p.g.keep.Asks {
		// Where nobody can be reached the kernel answers ENOSYS.
		if c, err := shim.Reach(p.g.paths.answers()); err == nil {
			listener = c
			defer listener.Close()
		}
	}
	x.Command, err = p.g.engine.shim.Exec(ctx, req, stdio, p.g.init.File(), listener)
	if err != nil {
		if x.term != nil {
			_ = x.term.Close()
		}
		return nil, p.ending(explain(err, s))
	}
	return x, nil
}

func explain(err error, s container.ExecSpec) error {
	var se *shim.StageError
	if !errors.As(err, &se) {
		return err
	}
	switch {
	case se.Stage == wire.StageCwd:
		code := 126
		if se.Errno == unix.ENOENT || se.Errno == unix.ENOTDIR {
			code = 127
		}
		return &container.CommandError{Code: code, Err: errs.Invalid("Working directory %q cannot be entered: %v", s.Cwd, se.Errno)}
	case se.Stage == wire.StageIDs && se.Errno == unix.EINVAL:
		return &container.CommandError{Code: 126, Err: errs.Invalid("The container has no user %d or no group %d: its map of ids leaves them out", s.UID, s.GID)}
	case se.Stage == wire.StageFork && se.Errno == unix.EAGAIN:
		return errs.Unavailable("The container has reached its limit of processes")
	case se.Errno == unix.ESRCH:
		return fmt.Errorf("%w: %w", process.ErrGone, err)
	}
	return fmt.Errorf("execute %q: %w", s.Command[0], err)
}

// enter writes the request for a command.
func (g *guest) enter(s container.ExecSpec) (wire.Fields, error) {
	var f wire.Fields
	for i := range g.engine.layout.Hierarchies {
		h := &g.engine.layout.Hierarchies[i]
		leaf, err := h.Joinable(payloadGroup(g.id))
		if err != nil {
			return nil, err
		}
		if !h.V2 {
			f.Add(wire.TagCgroup, h.Entry(leaf))
			continue
		}
		// The group itself first: some controllers suffer processes beside groups.
		dirs := h.Dir(payloadGroup(g.id))
		if leaf != dirs {
			dirs += "\n" + leaf
		}
		f.Add(wire.TagBirth, dirs)
	}
	for name, v := range g.keep.Rlimits {
		l, err := rlimit.Parse(name, v)
		if err != nil {
			return nil, err
		}
		f.Add(wire.TagRlimit, l.String())
	}
	f.AddInt(wire.TagOOM, int64(g.keep.OOM))
	flags := int64(namespaces)
	if g.keep.UserNS {
		flags |= unix.CLONE_NEWUSER
	}
	f.AddInt(wire.TagFlags, flags)
	// init's own set, not the Spec's: what it gave up, nothing gets back.
	bounds, err := process.Status(g.state.Init.PID, "CapBnd")
	if err != nil {
		return nil, err
	}
	caps, err := strconv.ParseUint(bounds, 16, 64)
	if err != nil {
		return nil, fmt.Errorf("capabilities of init: %w", err)
	}
	f.Add(wire.TagCaps, strconv.FormatUint(caps, 10))
	if v, err := process.Status(g.state.Init.PID, "NoNewPrivs"); err == nil && v == "1" {
		f.Add(wire.TagNoNew, "")
	}
	if g.engine.host.apparmor {
		label, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", g.state.Init.PID))
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(strings.TrimSpace(string(label)), " (")
		if name != "unconfined" {
			f.Add(wire.TagLabel, name)
		}
	}
	if g.keep.Seccomp {
		f.Add(wire.TagSeccomp, string(g.filter))
		if g.keep.Asks {
			f.Add(wire.TagListen, "")
		}
	}
	f.AddInt(wire.TagUID, int64(s.UID))
	f.AddInt(wire.TagGID, int64(s.GID))
	for _, id := range s.Groups {
		f.AddInt(wire.TagGroup, int64(id))
	}
	f.Add(wire.TagCwd, s.Cwd)
	if s.PTY {
		f.Add(wire.TagPTY, "")
	}
	for _, e := range s.Env {
		f.Add(wire.TagEnv, e)
	}
	for _, a := range s.Command {
		f.Add(wire.TagArg, a)
	}
	return f, nil
}

func (g *guest) hostIDs(uid, gid uint32) (int, int) {
	if !g.keep.UserNS {
		return int(uid), int(gid)
	}
	u, ok := g.keep.Map.HostUID(int64(uid))
	if !ok {
		u = -1
	}
	v, ok := g.keep.Map.HostGID(int64(gid))
	if !ok {
		v = -1
	}
	return int(u), int(v)
}

// own gives pipes to the command's user, so that it can open /dev/stdout. Files
// of any other kind are somebody else's.
func (g *guest) own(files []*os.File, s container.ExecSpec) {
	uid, gid := g.hostIDs(s.UID, s.GID)
	for _, f := range files {
		if f == nil {
			continue
		}
		conn, err := f.SyscallConn()
		if err != nil {
			continue
		}
		_ = conn.Control(func(fd uintptr) {
			var st unix.Stat_t
			if unix.Fstat(int(fd), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
				_ = unix.Fchown(int(fd), uid, gid)
			}
		})
	}
}

// openPTY makes a terminal in the container's own devpts, so that its name means
// something inside. The guest has no hand in it: the descriptor of the devpts
// comes from the monitor, made before init ran.
func (g *guest) openPTY(ctx context.Context, s container.ExecSpec) (master, slave *os.File, err error) {
	pts, err := g.ownDevpts(ctx)
	if err != nil {
		return nil, nil, err
	}
	conn, err := pts.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var fd, peer int
	cerr := conn.Control(func(dir uintptr) {
		fd, err = unix.Openat(int(dir), "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	})
	if err = errors.Join(cerr, err); err != nil {
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock a terminal: %w", err)
	}
	// By descriptor: the name belongs to another mount namespace.
	peer, err = ptPeer(fd)
	if err != nil {
		return nil, nil, fmt.Errorf("open a terminal's other side: %w", err)
	}
	slave = os.NewFile(uintptr(peer), "pts")
	uid, _ := g.hostIDs(s.UID, s.GID) // the group stays devpts's own, tty
	if err = unix.Fchown(peer, uid, -1); err != nil {
		_ = slave.Close()
		return nil, nil, fmt.Errorf("give a terminal to its user: %w", err)
	}
	if s.Width > 0 && s.Height > 0 {
		ws := &unix.Winsize{Col: uint16(s.Width), Row: uint16(s.Height)}
		if err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws); err != nil {
			_ = slave.Close()
			return nil, nil, err
		}
	}
	return os.NewFile(uintptr(fd), "ptmx"), slave, nil
}

// ownDevpts is the container's devpts.
func (g *guest) ownDevpts(ctx context.Context) (*os.File, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.devpts == nil && !g.closed {
		var err error
		if g.devpts, err = g.engine.shim.Devpts(ctx, wire.ConsoleRequest{Name: slug(g.id), LXCPath: g.paths.dir}); err != nil {
			return nil, err
		}
	}
	if g.devpts == nil {
		return nil, container.ErrNotRunning
	}
	return g.devpts, nil
}

func ptPeer(fd int) (int, error) {
	n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		return -1, e
	}
	return int(n), nil
}

// execution is a command under way.
type execution struct {
	*shim.Command
	term *terminal
}

func (x *execution) Terminal() container.Terminal {
	if x.term == nil {
		return nil
	}
	return x.term
}

// terminal is the master side of a pty.
type terminal struct {
	f      *os.File
	holder io.Closer // what else to close
	// sized, when set, passes a new size on to whom this terminal only stands for.
	sized func(width, height int) error
}

// newTerminal takes over f. Nonblocking, so that Close ends a read under way; that
// has to be so before Go makes a File of the descriptor.
func newTerminal(f *os.File) (*terminal, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &terminal{f: os.NewFile(uintptr(fd), f.Name())}, nil
}

// Read turns EIO, which a pty gives when its other side is gone, into io.EOF.
func (t *terminal) Read(b []byte) (int, error) {
	n, err := t.f.Read(b)
	if errors.Is(err, unix.EIO) {
		err = io.EOF
	}
	return n, err
}

func (t *terminal) Write(b []byte) (int, error) { return t.f.Write(b) }

func (t *terminal) Close() error {
	err := t.f.Close()
	if t.holder != nil {
		err = errors.Join(err, t.holder.Close())
	}
	return err
}

func (t *terminal) Resize(width, height int) error {
	conn, err := t.f.SyscallConn()
	if err != nil {
		return err
	}
	ws := &unix.Winsize{Col: uint16(width), Row: uint16(height)}
	var res error
	err = conn.Control(func(fd uintptr) { res = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, ws) })
	if err = errors.Join(err, res); err != nil || t.sized == nil {
		return err
	}
	return t.sized(width, height)
}
