// Package wire is what the daemon and its small child process say to each other:
// one request and its answers on a socket that the child has as descriptor 3.
//
// A message is a length (4 bytes, little endian) and a body. Verbs that run in
// Go (start) speak JSON. Verbs that run before the Go runtime exists (exec,
// mount), because only a process with one thread may join namespaces, are asked
// with Fields and answer with a Result; nsenter's C reads and writes the same.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"sett/lxd/host/idmap"
	"sett/lxd/host/seccomp"
)

// Argv0 is the name under which the child runs, whichever binary it is.
const Argv0 = "lxd-shim"

// The verbs, as the child's first argument.
const (
	VerbStart      = "start"
	VerbExec       = "exec"
	VerbMount      = "mount"
	VerbUmount     = "umount"
	VerbConsole    = "console"
	VerbConsoleLog = "consolelog"
	VerbDevpts     = "devpts"
	VerbFiles      = "files"
	VerbBrood      = "brood" // makes processes for exec, mount and umount
	VerbIntercept  = "intercept"
)

// Descriptors of the child. FDPid is a pidfd of the container's init.
const (
	FDSocket = 3
	FDPid    = 4
	FDSource = 5  // mount: the source; files: the tree, or what becomes FDGroup
	FDUserNS = 6  // mount: the container's user namespace
	FDListen = 5  // exec: a connection to who listens to the filter
	FDActor  = 8  // intercept: the process that acts
	FDSelf   = 9  // files: the child's own /proc/self/fd
	FDGroup  = 10 // files: the list of processes of the group that counts the guest's memory
)

const maxBody = 8 << 20

// Write sends one message.
func Write(w io.Writer, body []byte) error {
	if len(body) > maxBody {
		return fmt.Errorf("message of %d bytes is too large", len(body))
	}
	// One write, so that a reader never sees half a message from a killed writer.
	msg := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err := w.Write(append(msg, body...))
	return err
}

// Read receives one message; io.EOF when the other side has ended.
func Read(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxBody {
		return nil, fmt.Errorf("message of %d bytes is too large", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}

// WriteJSON sends v as one message.
func WriteJSON(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return Write(w, body)
}

// ReadJSON receives one message into v.
func ReadJSON(r io.Reader, v any) error {
	body, err := Read(r)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

// Fields is a request for a verb that runs in C: records of a tag (one byte), a
// length (4 bytes), the value and a zero byte that the length leaves out.
type Fields []byte

// The tags. Those marked + may come more than once.
const (
	TagArg     = 'a' // + command and arguments
	TagEnv     = 'e' // + KEY=value
	TagCgroup  = 'c' // + a file to write "0" to, see cgroup.Hierarchy.Entry
	TagBirth   = 'b' // the folder of a group of version 2 to begin in, or several to try, separated by a newline
	TagCwd     = 'd'
	TagFlags   = 'f' // namespaces to join, CLONE_NEW*
	TagUID     = 'u'
	TagGID     = 'g'
	TagGroup   = 'G' // + supplementary group
	TagCaps    = 'k' // bounding set to keep
	TagLabel   = 'l' // AppArmor profile
	TagNoNew   = 'n' // no_new_privs
	TagOOM     = 'o' // oom_score_adj
	TagPTY     = 'p' // standard input is a terminal to control
	TagRlimit  = 'r' // + "number soft hard"
	TagSeccomp = 's' // filter, struct sock_filter array
	TagListen  = 'N' // the filter asks somebody, to whom descriptor 5 leads

	TagSource = 'S' // mount: path on the host
	TagTarget = 'T' // mount, umount: where, relative to the root
	TagSet    = 'm' // mount: MOUNT_ATTR_* to set
	TagRec    = 'R' // mount: recursive
	TagIdmap  = 'i' // mount: shift ids with the container's map
	TagCreate = 'C' // mount: d or f
	TagFD     = 'F' // mount: the source is descriptor 5
)

// The tags of what the verb intercept asks its actor for, beside those of ids, groups,
// capabilities, source and target above.
const (
	TagAct      = 'o' // one of the letters below
	TagMode     = 'M'
	TagUmask    = 'K'
	TagMajor    = 'D'
	TagMinor    = 'd'
	TagFS       = 't'
	TagOptions  = 'O' // of a file system
	TagBlock    = 'b' // the file system lies on a block device
	TagNoFollow = 'L'
	TagThread   = 'P'
	TagPolicy   = 'Y'
	TagPriority = 'y'

	ActMknod    = "k"
	ActSetxattr = "x"
	ActMount    = "m"
	ActSched    = "s"
)

// Add appends a record.
func (f *Fields) Add(tag byte, value string) {
	*f = append(*f, tag)
	*f = binary.LittleEndian.AppendUint32(*f, uint32(len(value)))
	*f = append(*f, value...)
	*f = append(*f, 0)
}

// AddInt appends a number.
func (f *Fields) AddInt(tag byte, value int64) { f.Add(tag, strconv.FormatInt(value, 10)) }

// Result is an answer of a verb that runs in C.
type Result struct {
	Stage Stage
	Errno int32
	PID   int32
}

// ResultSize is the size of a Result's body.
const ResultSize = 12

// ParseResult reads a body.
func ParseResult(b []byte) (Result, error) {
	if len(b) != ResultSize {
		return Result{}, fmt.Errorf("answer of %d bytes", len(b))
	}
	le := binary.LittleEndian
	return Result{Stage(le.Uint32(b)), int32(le.Uint32(b[4:])), int32(le.Uint32(b[8:]))}, nil
}

// Stage says how far a verb came.
type Stage uint32

// The stages; nsenter.h has the same numbers.
const (
	StageDone    Stage = iota // success
	StagePID                  // exec: the command's process exists
	StageRequest              // the request cannot be read
	StageCgroup
	StageLimits
	StageSetns
	StageFork
	StageTerminal
	StageLabel
	StageIDs
	StageCaps
	StageSeccomp
	StageCwd
	StageCommand
	StageSource
	StageAttr
	StageTarget
	StageMove
	StageUmount
)

func (s Stage) String() string {
	names := []string{
		"done", "process", "read the request", "join the cgroup", "set limits", "join the namespaces",
		"make a process", "take the terminal", "set the security label", "change ids", "drop capabilities",
		"load the seccomp filter", "change the directory", "run the command", "open the source",
		"set mount attributes", "open the target", "attach the mount", "unmount",
	}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("stage %d", uint32(s))
}

// StartRequest asks for a container to be started.
type StartRequest struct {
	Name    string
	LXCPath string
	Config  string // path of the liblxc configuration
	State   string // path of the state file to write
	Seccomp string // path to save the compiled filter in; empty: the container has none
	Keep    json.RawMessage
	// Listener is the socket of who answers calls that the filter asks about; empty: it
	// asks nobody.
	Listener string `json:",omitempty"`
	// NoCompat: the filter refuses what 32-bit programs call.
	NoCompat bool `json:",omitempty"`

	// Mounts to prepare below StageDir, in a mount namespace of the monitor's own.
	StageDir string        `json:",omitempty"`
	Stage    []StagedMount `json:",omitempty"`
}

// StagedMount is a bind mount that is made before the container's namespaces.
type StagedMount struct {
	Name      string // below StageDir
	Source    string
	FD        int // descriptor of the source, counted from FDSource; -1: by path
	Attrs     uint64
	Recursive bool
}

// StartAnswer is followed by the descriptors that it counts, in this order: a
// pidfd of init, one of the monitor, one of the container's devpts.
type StartAnswer struct {
	Error string
	State State
	FDs   int
}

// State is what is kept of a running container for the next daemon.
type State struct {
	Boot    string // boot id: after a reboot of the host nothing of this is true
	Init    Task
	Monitor Task
	Keep    json.RawMessage // what the engine wants to find again
}

// Task is a process that cannot be mistaken for another with its pid.
type Task struct {
	PID   int
	Start uint64 // field 22 of /proc/PID/stat
}

// ConsoleRequest is for the verbs console, consolelog and devpts.
type ConsoleRequest struct {
	Name    string
	LXCPath string
	Clear   bool // consolelog: empty the buffer
}

// ConsoleAnswer is followed by one descriptor for console and devpts. The console
// stays taken until the socket is closed.
type ConsoleAnswer struct {
	Error string
	Busy  bool
	Log   []byte
	FDs   int
}

// InterceptRequest starts the process that answers system calls of a container for as
// long as that lives. It answers with an InterceptAnswer as soon as it can be reached.
type InterceptRequest struct {
	Socket    string // where filters are handed over
	State     string // file to note the process in
	Pending   string // file to note calls in that wait
	Container string // the container's state file
	Filter    string // what its filter is saved in
	Group     string // cgroup of the container
	Monitor   string // cgroup of its monitor, where this process goes as well
	IDs       idmap.Map
	Calls     seccomp.Intercept
}

// InterceptAnswer says that the process listens, or why it does not.
type InterceptAnswer struct{ Error string }

// The messages on the socket of an InterceptRequest: one byte, and descriptors.
const (
	// ListenFirst comes with the filter of init and with its user namespace.
	ListenFirst = 1
	// ListenMore comes with the filter of a command.
	ListenMore = 0
)

// SocketName is the name of a socket below an open folder: that of a path of any length
// that is short enough for the kernel.
func SocketName(dir int, path string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path))
}
