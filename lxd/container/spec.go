package container

import (
	"strings"
	"syscall"
	"time"

	"sett/lxd/host/idmap"
	"sett/lxd/host/seccomp"
	"sett/shared/errs"
)

// ID names a container on this host. Daemon and Project keep equal names in two
// projects, or in two daemons, apart: cgroups, lock files and abstract sockets
// are derived from all three.
type ID struct {
	Daemon  string // short and stable for one LXD_DIR
	Project string
	Name    string
}

// String is for logs and errors.
func (id ID) String() string {
	if id.Project == "" || id.Project == "default" {
		return id.Name
	}
	return id.Project + "/" + id.Name
}

// Check refuses ids that cannot stand in a path.
func (id ID) Check() error {
	for _, s := range []string{id.Daemon, id.Project, id.Name} {
		if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00\n\t \"'") {
			return errs.Invalid("Container id %q, %q, %q has a part that is empty or cannot stand in a file name", id.Daemon, id.Project, id.Name)
		}
	}
	return nil
}

// Spec is all that is needed to start one container.
type Spec struct {
	ID       ID
	Hostname string
	Arch     string   // personality, as uname -m prints it; empty: the host's
	InitCmd  []string // empty: /sbin/init
	InitEnv  []string // KEY=value for init

	Rootfs Rootfs
	IDMap  idmap.Map // empty: privileged
	Mounts []Mount   // in order; applied after the root file system
	NICs   []NIC

	Nesting     bool              // allow containers inside: fresh proc and sysfs, keyctl, ...
	LXCFS       string            // root of a running lxcfs, or empty
	Seccomp     seccomp.Policy    // the zero value is the default policy
	AppArmor    string            // name of a loaded profile, or empty
	Sysctl      map[string]string // linux.sysctl.*
	Rlimits     map[string]string // limits.kernel.*, "soft:hard"
	Limits      Limits
	DeviceRules []DeviceRule   // beyond the default set
	DropCaps    []string       // on top of the engine's default for privileged containers
	HaltSignal  syscall.Signal // asks init to end; 0: chosen by what init understands
	OOMScoreAdj *int
	RawLXC      string // lines for liblxc, appended last

	LogFile     string // the engine's own log
	LogLevel    string
	ConsoleLog  string // file that keeps what the console shows; see ReadConsoleLog
	ConsoleSize int64  // how much of it is kept
	RunDir      string // a private folder for the engine's files of this container
}

// Rootfs is where the root file system lies.
type Rootfs struct {
	Path string
	// Idmapped: the ids on disk are the guest's own, so mount with the container's
	// map. Otherwise the tree on disk is shifted already.
	Idmapped bool
	ReadOnly bool
}

// Mount is one mount inside the container.
type Mount struct {
	Source   string // host path, or what the file system type wants
	Target   string // inside, relative to the root, never with ".."
	FSType   string // "none" for a bind mount
	Options  []string
	Idmapped bool // shift ids with the container's map
	Create   Create
	Optional bool
	// SourceFD, when above zero, is an open descriptor of the source (O_PATH) that
	// the engine uses in place of the path, so that no symlink can slip in between.
	SourceFD int
}

// Create says what to make at a mount's target when nothing is there.
type Create int

const (
	CreateNone Create = iota
	CreateDir
	CreateFile
)

// NIC is a network interface that exists on the host and moves into the container.
type NIC struct {
	HostName  string // present name on the host
	GuestName string // name inside
	HWAddr    string // set when the device did not set it on the host already
	MTU       int
}

// DeviceRule allows or denies a device node in the devices cgroup.
type DeviceRule struct {
	Allow        bool
	Type         byte // 'c', 'b' or 'a'
	Major, Minor int  // -1: all
	Access       string
}

// Limits are what the cgroups enforce. Zero values mean "no limit".
type Limits struct {
	CPUSet        string // "0-1,4"
	CPUShares     uint64
	CPUQuota      time.Duration // per CPUPeriod
	CPUPeriod     time.Duration
	Memory        int64 // bytes
	MemorySoft    int64
	MemorySwap    int64 // memory+swap on v1, swap on v2 follows from it; -1: no swap
	Swappiness    *uint64
	Processes     int64
	BlkioWeight   uint64
	HugepageBytes map[string]int64 // "2MB" -> bytes
}

// Usage is what a running container uses now. -1 stands for "not known here".
type Usage struct {
	CPU         time.Duration
	Memory      int64
	MemoryPeak  int64
	Swap        int64
	SwapPeak    int64
	MemoryTotal int64 // the limit, or what the host has
	Processes   int64
}

// Interface is a network interface as the guest sees it now.
type Interface struct {
	Name      string
	HostName  string // its peer on the host, when the peer lies there
	HWAddr    string
	MTU       int
	Up        bool   // administratively
	State     string // "up" or "down"
	Type      string // "broadcast", "loopback", "point-to-point", "unknown"
	Addresses []Address
	Counters  Counters
}

// Address is one address of an Interface.
type Address struct {
	Family  string // "inet" or "inet6"
	Address string
	Netmask string // prefix length
	Scope   string // "global", "link", "local"
}

// Counters are the traffic of an Interface, seen from inside.
type Counters struct {
	BytesReceived, BytesSent        int64
	PacketsReceived, PacketsSent    int64
	ErrorsReceived, ErrorsSent      int64
	DroppedInbound, DroppedOutbound int64
}

// State of a container as its engine sees it.
type State string

const (
	Stopped  State = "STOPPED"
	Starting State = "STARTING"
	Running  State = "RUNNING"
	Freezing State = "FREEZING"
	Frozen   State = "FROZEN"
	Stopping State = "STOPPING"
	Aborting State = "ABORTING"
)

// Exit says how a container ended.
type Exit struct {
	// Reboot: the guest asked for a restart. The container has stopped all the same
	// (liblxc 5.0 would bring it back without its idmapped root); start it again.
	Reboot bool
	Time   time.Time
}
