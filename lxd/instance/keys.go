package instance

import (
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v2"

	"sett/lxd/config"
	"sett/lxd/container"
	"sett/lxd/host/idmap"
	"sett/lxd/host/module"
	"sett/lxd/host/rlimit"
	"sett/lxd/host/seccomp"
	"sett/shared/errs"
	"sett/shared/units"
)

// Configuration keys of instances.
var (
	Autostart         = config.String("boot.autostart", "", config.Live(), config.Check(checkBool), config.Group("boot"), config.Doc("Whether to start the instance when the daemon starts; unset: as it was before"))
	AutostartDelay    = config.Seconds("boot.autostart.delay", 0, config.Live(), config.Group("boot"), config.Doc("Seconds to wait after starting this instance before the next ones start; instances of one priority without a delay start together"))
	AutostartPriority = config.Int("boot.autostart.priority", 0, config.Live(), config.Group("boot"), config.Doc("Order of autostart, highest first"))
	AutoRestart       = config.Bool("boot.autorestart", false, config.Live(), config.Group("boot"), config.Doc("Whether to start the instance again when it ends without having been asked to, after a pause that grows from one second to one minute"))
	ShutdownTimeout   = config.Seconds("boot.host_shutdown_timeout", 30*time.Second, config.Live(), config.Group("boot"), config.Doc("Seconds that the instance has for its shutdown when the host goes down"))
	StopPriority      = config.Int("boot.stop.priority", 0, config.Live(), config.Group("boot"), config.Doc("Order in which instances stop with the host, highest first"))

	LimitCPU          = config.String("limits.cpu", "", config.Live(), config.Check(checkCPU), config.Group("limits"), config.Doc("How many CPUs the instance may use, or which ones"))
	LimitMemory       = config.String("limits.memory", "", config.Live(), config.Check(checkMemory), config.Group("limits"), config.Doc("How much memory the instance may use, in bytes, with a unit, or in percent of the host's"))
	LimitAllowance    = config.String("limits.cpu.allowance", "", config.Live(), config.Check(checkAllowance), config.Group("limits"), config.Doc("How much of the CPUs' time the instance gets: a share such as 50% when others want it too, or never more than such as 25ms/100ms"))
	LimitCPUPriority  = config.Int("limits.cpu.priority", 10, config.Live(), config.Check(checkPriority), config.Group("limits"), config.Doc("Who of instances with the same share of CPU time goes first, from 0 to 10"))
	LimitDisk         = config.Int("limits.disk.priority", 5, config.Live(), config.Check(checkPriority), config.Group("limits"), config.Doc("How much of the disks' time the instance gets when others want it too, from 0 to 10"))
	LimitNetwork      = config.Int("limits.network.priority", 0, config.Live(), config.Check(checkPriority), config.Group("limits"), config.Doc("Priority of the instance's packets in the queues of the host, from 0 to 10, for nics without a limits.priority of their own"))
	LimitEnforce      = config.String("limits.memory.enforce", "hard", config.Live(), config.Check(checkEnforce), config.Group("limits"), config.Doc("Whether the memory limit always holds (hard) or only when the host runs short of memory (soft)"))
	LimitSwap         = config.Bool("limits.memory.swap", true, config.Live(), config.Group("limits"), config.Doc("Whether memory of the instance may be swapped out"))
	LimitSwapPriority = config.Int("limits.memory.swap.priority", 10, config.Live(), config.Check(checkPriority), config.Group("limits"), config.Doc("How much the host keeps the instance's memory from being swapped out, from 0 to 10"))
	LimitProcesses    = config.Int("limits.processes", 0, config.Live(), config.Check(checkPositive), config.Group("limits"), config.Doc("How many processes the instance may have"))

	UserData      = config.String("cloud-init.user-data", "", config.Live(), config.Group("cloud-init"), config.Doc("What cloud-init does for the user of the instance, as cloud-config or script"))
	VendorData    = config.String("cloud-init.vendor-data", "", config.Live(), config.Group("cloud-init"), config.Doc("What cloud-init does for whoever provides the instance; user data wins over it"))
	NetworkConfig = config.String("cloud-init.network-config", "", config.Live(), config.Check(checkMapping), config.Group("cloud-init"), config.Doc("How cloud-init sets up the network, as its network configuration"))

	GuestAPI         = config.Bool("security.devlxd", true, config.Live(), config.Group("security"), config.Doc("Whether the instance has /dev/lxd, by which it learns about itself"))
	GuestImages      = config.Bool("security.devlxd.images", false, config.Live(), config.Group("security"), config.Doc("Whether the instance may read public and cached images over /dev/lxd"))
	SnapshotSchedule = config.String("snapshots.schedule", "", config.Live(), config.Check(checkSchedule), config.Group("snapshots"), config.Doc("When snapshots are taken by themselves: a cron expression, or names such as @daily, @startup or @never, parted by commas"))
	SnapshotStopped  = config.Bool("snapshots.schedule.stopped", false, config.Live(), config.Group("snapshots"), config.Doc("Whether snapshots are taken by themselves while the instance is stopped"))
	SnapshotPattern  = config.String("snapshots.pattern", "snap%d", config.Live(), config.Check(checkPattern), config.Group("snapshots"), config.Doc("Names of snapshots that were given none; %d counts, and {{ creation_date|date:'2006-01-02' }} is the time in this shape"))
	SnapshotExpiry   = config.String("snapshots.expiry", "", config.Live(), config.Check(checkExpiry), config.Group("snapshots"), config.Doc("Age at which snapshots are deleted, such as 1M 2H 3d 4w 5m 6y (minutes, hours, days, weeks, months, years)"))
	SnapshotKeep     = config.String("snapshots.retention", "", config.Live(), config.Check(checkRetention), config.Group("snapshots"), config.Doc("How many scheduled snapshots to keep, such as last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=2; the others are deleted"))

	KernelModules = config.String("linux.kernel_modules", "", config.Live(), config.Check(checkModules), config.Group("linux"), config.Doc("Modules that the kernel must have before the instance starts, with commas between them; they are loaded where that is possible"))

	RawLXC = config.String("raw.lxc", "", config.Live(), config.Check(container.CheckRaw), config.Group("raw"), config.Doc("Lines of configuration for liblxc, which come last; from the next start on"))

	RawIDMap = config.String("raw.idmap", "", config.Live(), config.Check(checkRawIDMap), config.Group("raw"), config.Doc("Ids of the host that are those of the instance: lines such as \"both 1000 1000\", \"uid 50-60 500-510\"; from the next start on"))

	IDMapIsolated = config.Bool("security.idmap.isolated", false, config.Live(), config.Group("security"), config.Doc("Give the instance host ids that no other instance has, from the next start on"))
	IDMapSize     = config.Int("security.idmap.size", 0, config.Live(), config.Check(checkIDs), config.Group("security"), config.Doc("How many ids the instance has, from the next start on; unset: 65536 of its own, or all that there are"))
	IDMapBase     = config.Int("security.idmap.base", 0, config.Live(), config.Check(checkPositive), config.Group("security"), config.Doc("First host id of an isolated instance, from the next start on; unset: the first free one"))

	SyscallsAllow   = config.String("security.syscalls.allow", "", config.Live(), config.Check(seccomp.CheckAllow), config.Group("security"), config.Doc("The only system calls that the instance may make, one a line; from the next start on"))
	SyscallsDeny    = config.String("security.syscalls.deny", "", config.Live(), config.Check(seccomp.CheckDeny), config.Group("security"), config.Doc("System calls that the instance may not make, one a line such as \"mkdir errno 1\"; from the next start on"))
	SyscallsDefault = config.Bool("security.syscalls.deny_default", true, config.Live(), config.Group("security"), config.Doc("Whether calls are forbidden that reach beyond an instance, such as those that load kernel modules; from the next start on"))
	SyscallsCompat  = config.Bool("security.syscalls.deny_compat", false, config.Live(), config.Group("security"), config.Doc("Whether system calls in the manner of 32-bit programs are forbidden on a host of 64 bits; from the next start on"))
	SyscallsRaw     = config.String("raw.seccomp", "", config.Live(), config.Check(seccomp.CheckRaw), config.Group("raw"), config.Doc("The whole system call policy for liblxc, in place of any other; from the next start on"))

	// Names that LXD had before, with the same meanings.
	oldAllow   = config.String("security.syscalls.whitelist", "", config.Live(), config.Check(seccomp.CheckAllow), config.Group("security"), config.Doc("Former name of security.syscalls.allow"))
	oldDeny    = config.String("security.syscalls.blacklist", "", config.Live(), config.Check(seccomp.CheckDeny), config.Group("security"), config.Doc("Former name of security.syscalls.deny"))
	oldDefault = config.Bool("security.syscalls.blacklist_default", true, config.Live(), config.Group("security"), config.Doc("Former name of security.syscalls.deny_default"))
	oldCompat  = config.Bool("security.syscalls.blacklist_compat", false, config.Live(), config.Group("security"), config.Doc("Former name of security.syscalls.deny_compat"))

	InterceptMknod    = config.Bool("security.syscalls.intercept.mknod", false, config.Live(), config.Group("security"), config.Doc("Whether the guest's root may make nodes of the devices that every instance has, such as /dev/null; from the next start on"))
	InterceptSetxattr = config.Bool("security.syscalls.intercept.setxattr", false, config.Live(), config.Group("security"), config.Doc("Whether the guest's root may mark folders as opaque for overlayfs; from the next start on"))
	InterceptSched    = config.Bool("security.syscalls.intercept.sched_setscheduler", false, config.Live(), config.Group("security"), config.Doc("Whether the guest's root may put processes into real-time classes, by which it can slow down the host; from the next start on"))
	InterceptSysinfo  = config.Bool("security.syscalls.intercept.sysinfo", false, config.Live(), config.Group("security"), config.Doc("Whether sysinfo(2) tells what the instance may use instead of what the host has; from the next start on"))
	InterceptMount    = config.Bool("security.syscalls.intercept.mount", false, config.Live(), config.Group("security"), config.Doc("Whether the guest's root may mount the file systems of the keys below; from the next start on"))
	MountAllowed      = config.String("security.syscalls.intercept.mount.allowed", "", config.Live(), config.Check(func(v string) error { _, err := seccomp.ParseMountAllowed(v); return err }), config.Group("security"), config.Doc("File systems, with commas between them, that the host's kernel mounts for the guest, which is then trusted not to attack the kernel by what is on the disk; from the next start on"))
	MountFUSE         = config.String("security.syscalls.intercept.mount.fuse", "", config.Live(), config.Check(func(v string) error { _, err := seccomp.ParseMountFUSE(v); return err }), config.Group("security"), config.Doc("File systems that a program in the guest mounts in the kernel's place, such as ext4=fuse2fs, with commas between them; from the next start on"))
	MountShift        = config.Bool("security.syscalls.intercept.mount.shift", false, config.Live(), config.Group("security"), config.Doc("Whether file systems that the kernel mounts for the guest have the ids of the instance; from the next start on"))

	Privileged = config.Bool("security.privileged", false, config.Group("security"), config.Doc("Run without a user namespace; root in the instance is root on the host; from the next start on"))
	Nesting    = config.Bool("security.nesting", false, config.Group("security"), config.Doc("Allow containers inside of the instance"))
	Unshifted  = config.Bool("security.protection.shift", false, config.Live(), config.Group("security"), config.Doc("Refuse to start the instance where the ids of its files on disk would have to be changed for it"))
	Protected  = config.Bool("security.protection.delete", false, config.Live(), config.Group("security"), config.Doc("Refuse to delete the instance"))
)

// Volatile keys that the daemon itself reads.
const (
	volPower       = "volatile.last_state.power"
	volDiskMap     = "volatile.last_state.idmap"
	volMapBase     = "volatile.idmap.base"
	volMapCurrent  = "volatile.idmap.current"
	volMapNext     = "volatile.idmap.next"
	volUUID        = "volatile.uuid"
	volInstanceID  = "volatile.cloud-init.instance-id"
	volBaseImage   = "volatile.base_image"
	volReady       = "volatile.last_state.ready" // the guest has said that it is usable
	volApply       = "volatile.apply_template"
	volPending     = "volatile.sett_pending"   // a create, delete or rename under way, see recover.go
	volScheduled   = "volatile.sett_scheduled" // of a snapshot: nobody asked for it by hand
	volRootPool    = "volatile.sett_pool"      // where the volume is, while no device says so
	volDone        = "volatile.sett_done"      // the last operation whose work was done, or how far it came, see resolve.go
	pendingCreate  = "create"
	pendingDelete  = "delete"
	pendingImport  = "import"
	pendingRename  = "rename to "                  // and the new name
	pendingRestore = "restore "                    // and the snapshot
	pendingSnap    = "rename snapshot "            // and both names, which hold no slash, with one between
	pendingMove    = "move "                       // and both pools, likewise
	pendingAway    = "transfer to another member " // and a ticket; without: it was given up
	pendingRebuild = "rebuild "                    // and the fingerprint of the image; none: to an empty root
	pendingShift   = "shift of ids "               // and what shift.go knows it by, and the new map
	volatilePrefix = "volatile."
)

// Keys of which there are several.
const (
	hugepagePrefix = "limits.hugepages."
	kernelPrefix   = "limits.kernel."
	sysctlPrefix   = "linux.sysctl."
)

// hugepages are the sizes that pages may have besides the usual one.
func hugepages() []string { return []string{"64KB", "1MB", "2MB", "1GB"} }

// unbuilt are keys of LXD 5.0 that this build refuses by name.
var unbuilt = []string{
	"cluster.evacuate",
	"limits.memory.hugepages",
	"migration.*", "nvidia.*", "raw.apparmor", "raw.qemu",
	"security.agent.metrics", "security.csm",
	"security.secureboot", "security.sev*", "security.syscalls.intercept.bpf", "security.syscalls.intercept.bpf.*",
}

// Keys is the table of all keys that an instance or a profile may hold.
func Keys() config.Table {
	ks := []config.Declared{
		Autostart, AutostartDelay, AutostartPriority, AutoRestart, ShutdownTimeout, StopPriority,
		LimitCPU, LimitAllowance, LimitCPUPriority, LimitMemory, LimitEnforce, LimitSwap, LimitSwapPriority, LimitProcesses, LimitDisk, LimitNetwork, RawLXC, RawIDMap, IDMapIsolated, IDMapSize, IDMapBase, UserData, VendorData, NetworkConfig, GuestAPI, GuestImages,
		SnapshotSchedule, SnapshotStopped, SnapshotPattern, SnapshotExpiry, SnapshotKeep, Privileged, Nesting, Unshifted, Protected, KernelModules,
		SyscallsAllow, SyscallsDeny, SyscallsDefault, SyscallsCompat, SyscallsRaw, oldAllow, oldDeny, oldDefault, oldCompat,
		InterceptMknod, InterceptSetxattr, InterceptSched, InterceptSysinfo, InterceptMount, MountAllowed, MountFUSE, MountShift,
		config.Any("environment.*", config.Live(), config.Group("environment"), config.Doc("Environment variables of init and of commands that are run inside")),
		config.Any("user.*", config.Live(), config.Group("user"), config.Doc("Free text of the user's")),
		config.Any("image.*", config.Live(), config.Group("image"), config.Doc("Properties of the image that the instance was made from")),
		config.Any("volatile.*", config.Live(), config.Volatile(), config.Group("volatile"), config.Doc("What the daemon itself remembers")),
	}
	for _, size := range hugepages() {
		ks = append(ks, config.String(hugepagePrefix+size, "", config.Live(), config.Check(checkSize), config.Group("limits"),
			config.Doc("How much memory the instance may use in pages of "+size+", in bytes or with a unit")))
	}
	for _, name := range rlimit.Names() {
		ks = append(ks, config.String(kernelPrefix+name, "", config.Live(), config.Group("limits"), config.Doc("Limit of each process from the next start on, as SOFT:HARD or one number for both; see setrlimit(2), RLIMIT_"+strings.ToUpper(name)),
			config.Check(func(v string) error { _, err := rlimit.Parse(name, v); return err })))
	}
	ks = append(ks, config.Any(sysctlPrefix+"*", config.Live(), config.Check(checkLine), config.Group("linux"), config.Doc("Settings of the kernel that the instance has of its own, such as net.ipv4.ip_forward, from the next start on")))
	for _, k := range unbuilt {
		ks = append(ks, config.Unbuilt(k))
	}
	return config.NewTable(ks...)
}

func checkBool(v string) error {
	_, err := config.ParseBool(v)
	return err
}

func checkModules(v string) error {
	_, err := module.Parse(v)
	return err
}

// checkMapping refuses what is no YAML with keys.
func checkMapping(v string) error {
	var m map[string]any
	if err := yaml.Unmarshal([]byte(v), &m); err != nil {
		return errs.Invalid("it is no YAML with keys: %v", err)
	}
	return nil
}

func checkPositive(v string) error {
	if n, err := strconv.ParseInt(v, 10, 64); err != nil || n < 1 {
		return errs.Invalid("%q is not a number above zero", v)
	}
	return nil
}

func checkPriority(v string) error {
	if n, err := strconv.ParseInt(v, 10, 64); err != nil || n < 0 || n > 10 {
		return errs.Invalid("%q is not a priority from 0 to 10", v)
	}
	return nil
}

func checkRawIDMap(v string) error {
	_, err := idmap.ParseRaw(v)
	return err
}

func checkIDs(v string) error {
	if n, err := strconv.ParseInt(v, 10, 64); err != nil || n < idmap.MinRange || n > 1<<31 {
		return errs.Invalid("%q is not a number of ids, of which an instance needs at least %d", v, idmap.MinRange)
	}
	return nil
}

func checkEnforce(v string) error {
	if v != "hard" && v != "soft" {
		return errs.Invalid("%q is neither hard nor soft", v)
	}
	return nil
}

func checkSize(v string) error {
	if n, err := units.ParseByteSizeString(v); err != nil || n < 0 {
		return errs.Invalid("%q is not a size", v)
	}
	return nil
}

func checkLine(v string) error {
	if strings.ContainsAny(v, "\n\r\x00") {
		return errs.Invalid("it is more than one line")
	}
	return nil
}

func checkAllowance(v string) error {
	_, _, _, err := parseAllowance(v)
	return err
}

func checkCPU(v string) error {
	_, _, err := parseCPU(v)
	return err
}

func checkMemory(v string) error {
	_, err := parseMemory(v, 1<<40)
	return err
}

// parseCPU reads limits.cpu: a number of CPUs, or a set as the kernel writes them.
// A lone number is a number of CPUs; "2-2" is the CPU with the number 2.
func parseCPU(v string) (count int, set []int, err error) {
	if n, err := strconv.Atoi(v); err == nil {
		if n < 1 {
			return 0, nil, errs.Invalid("%q is not a number of CPUs above zero", v)
		}
		return n, nil, nil
	}
	seen := map[int]bool{}
	for _, part := range strings.Split(v, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		a, err1 := strconv.Atoi(lo)
		b := a
		var err2 error
		if isRange {
			b, err2 = strconv.Atoi(hi)
		}
		if err1 != nil || err2 != nil || a < 0 || b < a || b > 8191 {
			return 0, nil, errs.Invalid("%q is neither a number of CPUs nor a set such as 0-3 or 1,3", v)
		}
		for c := a; c <= b; c++ {
			if !seen[c] {
				seen[c] = true
				set = append(set, c)
			}
		}
	}
	return 0, set, nil
}

// parseMemory reads limits.memory; total is what a percentage is of.
func parseMemory(v string, total int64) (int64, error) {
	if p, ok := strings.CutSuffix(v, "%"); ok {
		n, err := strconv.ParseInt(p, 10, 64)
		if err != nil || n < 1 || n > 100 {
			return 0, errs.Invalid("%q is not a percentage between 1%% and 100%%", v)
		}
		return total / 100 * n, nil
	}
	n, err := units.ParseByteSizeString(v)
	if err != nil {
		return 0, errs.Invalid("%q is not a size", v)
	}
	if n < 1 {
		return 0, errs.Invalid("%q is not a size above zero", v)
	}
	return n, nil
}

func isTrue(v string) bool {
	b, err := config.ParseBool(v)
	return err == nil && b
}
