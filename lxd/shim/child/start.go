package child

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"

	lxc "github.com/lxc/go-lxc"
	"golang.org/x/sys/unix"

	"sett/lxd/host/process"
	"sett/lxd/shim"
	"sett/lxd/shim/child/nsenter"
	"sett/lxd/shim/wire"
)

// start makes a container. liblxc forks this process to get the monitor, which
// closes all our descriptors and lives on; we report and end.
func start(sock *os.File) {
	var req wire.StartRequest
	if err := wire.ReadJSON(sock, &req); err != nil {
		os.Exit(125)
	}
	ans, files := run(&req)
	ans.FDs = len(files)
	reply(sock, ans, files)
	os.Exit(0)
}

func run(req *wire.StartRequest) (ans wire.StartAnswer, files []*os.File) {
	fail := func(what string, err error) (wire.StartAnswer, []*os.File) {
		return wire.StartAnswer{Error: what + ": " + err.Error()}, nil
	}
	if len(req.Stage) > 0 {
		// liblxc forks from this thread, which alone has the new mount namespace.
		runtime.LockOSThread()
		if err := stage(req.StageDir, req.Stage); err != nil {
			return fail("prepare mounts", err)
		}
	}
	c, err := lxc.NewContainer(req.Name, req.LXCPath)
	if err != nil {
		return fail("make the container", err)
	}
	if err := c.LoadConfigFile(req.Config); err != nil {
		return fail("read the configuration", err)
	}
	if req.Seccomp != "" && !nsenter.PrepareCapture(req.Listener != "", req.NoCompat) {
		return fail("make room for the seccomp filter", errors.New("no memory"))
	}
	if err := c.WantCloseAllFds(true); err != nil {
		return fail("set up", err)
	}
	if err := c.Start(); err != nil {
		return fail("start", err)
	}
	state, pidfds, err := found(c, req)
	if err == nil && req.Seccomp != "" {
		err = saveFilter(req.Seccomp)
	}
	if err == nil {
		err = writeState(req.State, state)
	}
	if err == nil && req.Listener != "" {
		// init waits already, should it have made a call that somebody else answers.
		err = shim.HandOver(req.Listener, state.Init.PID, state.Monitor.PID)
	}
	var pts *os.File
	if err == nil {
		pts, err = c.DevptsFd()
	}
	if err != nil {
		_ = c.Stop()
		return fail("look at the new container", err)
	}
	return wire.StartAnswer{State: state}, append(pidfds, pts)
}

// found names init and its monitor so that nobody can be mistaken for them.
func found(c *lxc.Container, req *wire.StartRequest) (wire.State, []*os.File, error) {
	boot, err := process.BootID()
	if err != nil {
		return wire.State{}, nil, err
	}
	st := wire.State{Boot: boot, Keep: req.Keep}
	var files []*os.File
	pid := c.InitPid()
	for _, t := range []*wire.Task{&st.Init, &st.Monitor} {
		if pid <= 1 {
			return st, nil, errors.New("the container has ended already")
		}
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err != nil {
			return st, nil, err
		}
		files = append(files, os.NewFile(uintptr(fd), "pidfd"))
		s, err := process.ReadStat(pid)
		if err != nil {
			return st, nil, err
		}
		*t = wire.Task{PID: pid, Start: s.Start}
		pid = s.Parent
	}
	return st, files, nil
}

func saveFilter(path string) error {
	filter := nsenter.Captured()
	if len(filter) == 0 {
		return errors.New("liblxc loaded no seccomp filter")
	}
	return writeFile(path, filter)
}

// writeFile makes the file appear whole or not at all.
func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func writeState(path string, st wire.State) error {
	body, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return writeFile(path, body)
}

// reply sends an answer and the descriptors that belong to it.
func reply(sock *os.File, ans any, files []*os.File) {
	if err := wire.WriteJSON(sock, ans); err != nil {
		os.Exit(1)
	}
	if len(files) == 0 {
		return
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	if err := unix.Sendmsg(wire.FDSocket, []byte{0}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		os.Exit(1)
	}
}
