package container

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"sett/lxd/host/idmap"
	"sett/shared/errs"
)

// ErrNotRunning is returned for a container that has no process. It is told to whoever wanted
// something of one that has just ended.
var ErrNotRunning = errs.Invalid("The instance is not running")

// Info tells what an engine is and can do.
type Info struct {
	Driver   string          // "lxc"
	Version  string          // "5.0.2"
	Features map[string]bool // for lxc_features in /1.0
}

// Engine starts containers and finds those that run. It keeps no state that a
// restart of the daemon would lose.
type Engine interface {
	Info() Info

	// Start returns when the container's init runs, or with nothing left behind.
	// Cancelling ctx before that ends the start and cleans up.
	Start(ctx context.Context, spec Spec) (Process, error)

	// Find adopts a running container, or returns ErrNotRunning. It does not block
	// on the container: a frozen one is found too.
	Find(ctx context.Context, id ID, runDir string) (Process, error)

	// Clean removes what a dead container has left: cgroups, sockets, locks. It may
	// run twice and on a container that never ran.
	Clean(ctx context.Context, id ID, runDir string) error

	// Files starts a server for the files of a tree, inside of it and with its ids.
	// The connection speaks package guestfs; to close it ends the server in the middle
	// of whatever it does.
	Files(ctx context.Context, t FileTree) (io.ReadWriteCloser, error)
}

// FileTree is whose files are to be served.
type FileTree struct {
	// Process is the container that runs with the tree as its root. Its files are seen
	// as it sees them, with all that is mounted there.
	Process Process
	// Without one, Root is the folder of the tree, IDMap its ids, empty for the host's,
	// and Idmapped says that what is on disk are the ids inside.
	Root     string
	IDMap    idmap.Map
	Idmapped bool
	ReadOnly bool // for a Root only
}

// Process is one running container. It is safe for concurrent use.
type Process interface {
	ID() ID
	PID() int // of init, on the host
	State(ctx context.Context) (State, error)

	// Wait blocks until the container has stopped and its monitor is gone. Many may
	// wait; each gets the same answer. It works on adopted containers too.
	Wait(ctx context.Context) (Exit, error)

	Shutdown(ctx context.Context) error // ask init to end; returns when asked
	Kill(ctx context.Context) error     // end all processes; returns when stopped
	Freeze(ctx context.Context) error
	Unfreeze(ctx context.Context) error

	Exec(ctx context.Context, e ExecSpec) (Exec, error)

	// SetLimits applies what changed between two sets of limits, live.
	SetLimits(ctx context.Context, old, new Limits) error
	AllowDevices(ctx context.Context, rules []DeviceRule) error
	Usage(ctx context.Context) (Usage, error)
	// Interfaces lists the guest's network interfaces, sorted by index. It starts no
	// process and does not ask the guest: a frozen one answers too.
	Interfaces(ctx context.Context) ([]Interface, error)

	// Plugging into a running container.
	AddMount(ctx context.Context, m Mount) error
	RemoveMount(ctx context.Context, target string) error
	AddNIC(ctx context.Context, n NIC) error
	// RemoveNIC moves the interface back to the host under the name hostName.
	RemoveNIC(ctx context.Context, guestName, hostName string) error

	// Console opens the container's console; ErrConsoleBusy when somebody has it.
	Console(ctx context.Context) (Terminal, error)
	ConsoleLog(ctx context.Context, clear bool) ([]byte, error)

	// Close forgets the handle; the container goes on.
	Close() error
}

// Terminal is the master side of a terminal. Read answers io.EOF when nobody
// holds the other side any more. Close ends a Read under way.
type Terminal interface {
	io.ReadWriteCloser
	Resize(width, height int) error
}

// ErrConsoleBusy is returned while another client holds the console.
var ErrConsoleBusy = errors.New("console is in use")

// CommandError is why a command did not come to run in a container that is well.
type CommandError struct {
	Code int // what a shell would have made of it
	Err  error
}

func (e *CommandError) Error() string { return e.Err.Error() }

func (e *CommandError) Unwrap() error { return e.Err }

// ExecSpec is one command inside a container.
type ExecSpec struct {
	Command []string
	Env     []string // complete: nothing is inherited
	Cwd     string
	UID     uint32
	GID     uint32
	Groups  []uint32 // supplementary

	// With PTY the command gets a terminal of the container's own devpts and its
	// master side is the Exec's Terminal. Without, the three files are its
	// standard streams; the caller keeps and closes its ends.
	PTY           bool
	Width, Height int
	Stdin         *os.File
	Stdout        *os.File
	Stderr        *os.File
}

// Exec is a command under way.
type Exec interface {
	PID() int           // on the host
	Terminal() Terminal // nil without PTY; the caller closes it
	Signal(sig syscall.Signal) error
	// Wait returns the exit status: 0-255, 128+n after signal n, 127 when the
	// command was not found, 126 when it cannot be executed. Many may wait.
	Wait(ctx context.Context) (int, error)
}
