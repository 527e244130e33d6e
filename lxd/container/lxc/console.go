package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/shim"
	"sett/lxd/shim/wire"
	"sett/shared/errs"
)

func (p *proc) console() wire.ConsoleRequest {
	return wire.ConsoleRequest{Name: slug(p.g.id), LXCPath: p.g.paths.dir}
}

func (p *proc) Console(ctx context.Context) (container.Terminal, error) {
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	c, err := p.g.engine.shim.Console(ctx, p.console())
	if errors.Is(err, shim.ErrBusy) {
		return nil, container.ErrConsoleBusy
	}
	if err != nil {
		return nil, p.ending(err)
	}
	t, err := newTerminal(c.File)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	t.holder, t.sized = c, p.g.resizeConsole
	return t, nil
}

// resizeConsole sets the size of the guest's console itself. What a viewer holds is
// a terminal of its own whose contents the monitor copies, and the monitor pays no
// heed to sizes. By the monitor's descriptor: every path to it is the guest's.
func (g *guest) resizeConsole(width, height int) error {
	pts, err := g.ownDevpts(context.Background())
	if err != nil {
		return err
	}
	var want, have unix.Stat_t
	if err := fstat(pts, &want); err != nil {
		return err
	}
	dir := fmt.Sprintf("/proc/%d/fd", g.state.Monitor.PID)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range fds {
		n, err := strconv.Atoi(e.Name())
		if err != nil || unix.Stat(filepath.Join(dir, e.Name()), &have) != nil || have.Dev != want.Dev || have.Mode&unix.S_IFMT != unix.S_IFCHR {
			continue
		}
		return g.monitor.Borrow(n, func(fd int) error {
			// The same again, of what was really handed over.
			if err := unix.Fstat(fd, &have); err != nil || have.Dev != want.Dev || have.Mode&unix.S_IFMT != unix.S_IFCHR {
				return errors.Join(err, unix.EBADF)
			}
			return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(width), Row: uint16(height)})
		})
	}
	return unix.ENOTTY
}

func fstat(f *os.File, st *unix.Stat_t) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = conn.Control(func(fd uintptr) { serr = unix.Fstat(int(fd), st) })
	return errors.Join(err, serr)
}

func (p *proc) ConsoleLog(ctx context.Context, clear bool) ([]byte, error) {
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	// From the ring buffer everything can be read once only.
	file, size := p.g.keep.Console, p.g.keep.ConsoleKB<<10
	if file == "" || clear {
		req := p.console()
		req.Clear = clear
		out, err := p.g.engine.shim.ConsoleLog(ctx, req)
		if err != nil && strings.Contains(err.Error(), unix.ENODATA.Error()) { // as text, over the shim's socket
			err = nil // nothing has been printed yet
		}
		if err != nil {
			return nil, p.ending(errs.Internal("The console log of %s cannot be read: %v", p.g.id, err))
		}
		if file == "" {
			return out, nil
		}
	}
	out, err := container.ReadConsoleLog(file, size)
	if err == nil && clear {
		err = container.ClearConsoleLog(file)
	}
	return out, err
}
