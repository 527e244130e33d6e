// Package child is the inside of the small process that the daemon starts for
// work that must not happen in the daemon itself: liblxc forks its caller to get
// a container's monitor, and namespaces are joined by processes of one thread.
//
// Main is the first thing in the main function of lxd-shim, and of lxd too, which
// serves as its own shim where lxd-shim is not installed.
package child

import (
	"os"
	"syscall"

	_ "sett/lxd/shim/child/nsenter" // its constructor runs exec, mount and umount, and begins files and intercept
	"sett/lxd/shim/wire"
)

// Main runs the verb that args (os.Args) name. It reports false when the process
// was not started as a shim, and the caller goes on with what it is otherwise.
func Main(args []string) (handled bool) {
	if len(args) == 0 || args[0] != wire.Argv0 {
		return false
	}
	verb := ""
	if len(args) > 1 {
		verb = args[1]
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(wire.FDSocket, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		os.Stderr.WriteString("lxd-shim is run by the daemon\n")
		os.Exit(125)
	}
	syscall.CloseOnExec(wire.FDSocket)
	sock := os.NewFile(wire.FDSocket, "daemon")
	switch verb {
	case wire.VerbStart:
		start(sock)
	case wire.VerbConsole:
		console(sock)
	case wire.VerbDevpts:
		devpts(sock)
	case wire.VerbConsoleLog:
		consoleLog(sock)
	case wire.VerbFiles:
		files(sock)
	case wire.VerbIntercept:
		intercept(sock)
	default:
		os.Stderr.WriteString("lxd-shim does not know this verb\n")
		os.Exit(125)
	}
	return true
}
