package child

import (
	"io"
	"os"

	lxc "github.com/lxc/go-lxc"

	"sett/lxd/shim/wire"
)

// console opens a running container's console and hands its descriptor over. The
// monitor keeps the console taken for as long as our connection to it lives, so
// this process stays until the daemon closes the socket.
func console(sock *os.File) {
	var req wire.ConsoleRequest
	if err := wire.ReadJSON(sock, &req); err != nil {
		os.Exit(125)
	}
	c, err := lxc.NewContainer(req.Name, req.LXCPath)
	if err != nil {
		reply(sock, wire.ConsoleAnswer{Error: err.Error()}, nil)
		os.Exit(1)
	}
	fd, err := c.ConsoleFd(0)
	if err != nil {
		reply(sock, wire.ConsoleAnswer{Busy: true, Error: err.Error()}, nil)
		os.Exit(1)
	}
	f := os.NewFile(uintptr(fd), "console")
	reply(sock, wire.ConsoleAnswer{FDs: 1}, []*os.File{f})
	_ = f.Close()
	_, _ = io.Copy(io.Discard, sock)
	os.Exit(0)
}

// consoleLog reads, and clears on demand, the ring buffer of the console.
func consoleLog(sock *os.File) {
	var req wire.ConsoleRequest
	if err := wire.ReadJSON(sock, &req); err != nil {
		os.Exit(125)
	}
	var ans wire.ConsoleAnswer
	c, err := lxc.NewContainer(req.Name, req.LXCPath)
	if err == nil {
		ans.Log, err = c.ConsoleLog(lxc.ConsoleLogOptions{ReadLog: true, ClearLog: req.Clear})
	}
	if err != nil {
		ans.Error = err.Error()
	}
	reply(sock, ans, nil)
	os.Exit(0)
}

// devpts hands the devpts of a running container over.
func devpts(sock *os.File) {
	var req wire.ConsoleRequest
	if err := wire.ReadJSON(sock, &req); err != nil {
		os.Exit(125)
	}
	c, err := lxc.NewContainer(req.Name, req.LXCPath)
	var f *os.File
	if err == nil {
		f, err = c.DevptsFd()
	}
	if err != nil {
		reply(sock, wire.ConsoleAnswer{Error: err.Error()}, nil)
		os.Exit(1)
	}
	reply(sock, wire.ConsoleAnswer{FDs: 1}, []*os.File{f})
	os.Exit(0)
}
