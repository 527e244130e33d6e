// Package child is the inside of the jail in which images are taken apart: see
// package unpack. It is part of the shim, of which every running container keeps a
// copy, and so it imports as little as it can.
package child

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Verb is the first argument by which a program knows that it is to call Main.
const Verb = "unpack"

// Job is what the child is told, as JSON in its second argument.
type Job struct {
	Format string   // of the archive, by package archive's name
	Only   []string // what to take out of a squashfs; empty: all
	// Below are folders of a tarball, each of which has a target of its own; none: all of
	// it has one. They are further arguments: together they may be longer than one may be.
	Below []string `json:"-"`
}

// Descriptors that the child inherits beside the standard three: mounts without a
// place, as open_tree makes them.
// The targets come first, then, for a squashfs, the archive.
const fdTarget = 3

// ExitJail is the exit status of Main when it came to no work.
const (
	ExitJail = 120 // the jail could not be built
	memory   = 4 << 30
	cpuTime  = 2 * 60 * 60 // seconds
)

// keep are the capabilities for making files of any kind and owner.
func keep() []int {
	return []int{
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_MKNOD, unix.CAP_SETFCAP,
	}
}

// Main is the child. args are what follows the verb. It returns the exit status.
func Main(args []string) int {
	var j Job
	outside := func(folder string) bool { return !filepath.IsLocal(folder) }
	if len(args) == 0 || json.Unmarshal([]byte(args[0]), &j) != nil || slices.ContainsFunc(args[1:], outside) {
		fmt.Fprintln(os.Stderr, "unpack: not meant to be called by hand")
		return ExitJail
	}
	j.Below = args[1:]
	// Capabilities belong to threads: what drops them must be what starts the program.
	runtime.LockOSThread()
	// And the others keep theirs. Who takes over the program must not get at them, nor
	// at our binary, through /proc/1.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "hide from the jail:", err)
		return ExitJail
	}
	if err := jail(j); err != nil {
		fmt.Fprintln(os.Stderr, "build the jail:", err)
		return ExitJail
	}
	name, argv := command(j)
	c := exec.Command(name, argv...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C", "TAR_OPTIONS="}
	c.Dir = "/"
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if exit.ExitCode() < 0 {
			fmt.Fprintln(os.Stderr, name, "was stopped:", exit)
			return 1
		}
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const (
	target      = "/target"
	archivePath = "/archive"
)

// command is the program and its arguments, as seen from inside the jail.
func command(j Job) (string, []string) {
	if j.Format == "squashfs" {
		args := []string{"-f", "-n", "-p", "2", "-da", "64", "-fr", "64", "-d", target, archivePath}
		return "unsquashfs", append(args, j.Only...)
	}
	var z []string
	switch j.Format {
	case "gzip":
		z = []string{"--gzip"}
	case "bzip2":
		z = []string{"--bzip2"}
	case "xz":
		z = []string{"--xz"}
	case "zstd":
		z = []string{"--zstd"}
	case "lz4":
		z = []string{"--use-compress-program=lz4"}
	}
	// Other attributes in "security." and "trusted." are for the host's own use, and
	// setting them needs powers that the jail lacks.
	z = append(z, "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=user.*",
		"--xattrs-include=security.capability", "--xattrs-include=system.posix_acl_*", "-C", target)
	z = append(z, "--same-owner", "--same-permissions", "--warning=no-timestamp", "--warning=no-unknown-keyword", "-x", "-f", "-")
	if len(j.Below) > 0 {
		// Names are what they are: no patterns, and no backslash that stands for something.
		z = append(z, "--no-wildcards", "--anchored", "--no-unquote", "--")
	}
	return "tar", append(z, j.Below...)
}

// jail confines this process. It starts in fresh namespaces, as root.
func jail(j Job) error {
	unix.Umask(0)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("leave the host's mounts: %w", err)
	}
	const root = "/tmp"
	const strict = unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("tmpfs", root, "tmpfs", strict, "size=4m,mode=755"); err != nil {
		return fmt.Errorf("make an empty root: %w", err)
	}
	for _, name := range []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		if err := show("/"+name, filepath.Join(root, name)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(root+"/tmp", 0o700); err != nil {
		return err
	}
	// ACLs in tarballs speak of users by name.
	if err := os.Mkdir(root+"/etc", 0o755); err != nil {
		return err
	}
	for _, name := range []string{"/etc/passwd", "/etc/group"} {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if err := os.WriteFile(root+name, b, 0o644); err != nil {
			return err
		}
	}
	// tar sets modes of what it must not follow through /proc/self/fd. Other than
	// processes, of which there are only the jail's, nothing of proc is to be seen.
	if err := os.Mkdir(root+"/proc", 0o555); err != nil {
		return err
	}
	if err := unix.Mount("proc", root+"/proc", "proc", strict|unix.MS_NOEXEC|unix.MS_RDONLY, "subset=pid"); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	targets := j.Below
	if len(targets) == 0 {
		targets = []string{""}
	}
	for n, name := range targets {
		to := filepath.Join(root+target, name)
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		if err := attach(fdTarget+n, to, strict|unix.MS_NOEXEC); err != nil {
			return err
		}
	}
	fdArchive := fdTarget + len(targets)
	if j.Format == "squashfs" {
		// unsquashfs wants a name to open.
		if err := os.WriteFile(root+archivePath, nil, 0o600); err != nil {
			return err
		}
		if err := attach(fdArchive, root+archivePath, strict|unix.MS_NOEXEC|unix.MS_RDONLY); err != nil {
			return err
		}
	}
	for fd := fdTarget; fd <= fdArchive; fd++ {
		unix.Close(fd)
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return dropPowers()
}

// show makes a folder of the host's root visible in the new one, or repeats the link
// that it is.
func show(from, to string) error {
	fi, err := os.Lstat(from)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() == os.ModeSymlink {
		l, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(l, to)
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	return bind(from, to, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY)
}

// attach puts a mount that the parent made at its place. A folder of another mount
// namespace could not be bound here.
func attach(fd int, to string, flags uintptr) error {
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach %s: %w", to, err)
	}
	if err := unix.Mount("", to, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("leave the host's mounts at %s: %w", to, err)
	}
	return restrict(to, flags)
}

func bind(from, to string, flags uintptr) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", to, err)
	}
	return restrict(to, flags)
}

func restrict(to string, flags uintptr) error {
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		return fmt.Errorf("restrict %s: %w", to, err)
	}
	return nil
}

// dropPowers limits the calling thread and what it starts.
func dropPowers() error {
	for what, n := range map[int]uint64{unix.RLIMIT_AS: memory, unix.RLIMIT_CPU: cpuTime, unix.RLIMIT_CORE: 0} {
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("limit resource %d: %w", what, err)
		}
	}
	var mask [2]uint32
	for _, c := range keep() {
		mask[c/32] |= 1 << (c % 32)
	}
	for c := 0; c <= 63; c++ {
		if mask[c/32]&(1<<(c%32)) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if err == unix.EINVAL {
			break // the kernel knows no more
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("drop ambient capabilities: %w", err)
	}
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	for i := range d {
		d[i] = unix.CapUserData{Effective: mask[i], Permitted: mask[i], Inheritable: 0}
	}
	if err := unix.Capset(&h, &d[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("refuse new privileges: %w", err)
	}
	// A change of powers may undo it, as fs.suid_dumpable says.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide from the jail: %w", err)
	}
	return dropKeys()
}

// dropKeys takes the keys of the host's root away: those of the daemon's session, and
// all that root owns, by refusing the system calls that deal with keys.
func dropKeys() error {
	// Without support for keys in the kernel there are none.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS {
		return fmt.Errorf("leave the session's keys: %w", err)
	}
	const errno = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	const load, equal, give = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	arch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64,
		"riscv64": unix.AUDIT_ARCH_RISCV64, "ppc64le": unix.AUDIT_ARCH_PPC64LE, "s390x": unix.AUDIT_ARCH_S390X}[runtime.GOARCH]
	if arch == 0 {
		return nil
	}
	f := []unix.SockFilter{
		{Code: load, K: 4}, // seccomp_data.arch
		{Code: equal, K: arch, Jt: 1},
		{Code: give, K: errno}, // the numbers of another architecture mean other calls
		{Code: load, K: 0},     // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: 0x40000000, Jt: 3}, // x32 has numbers of its own
		{Code: equal, K: unix.SYS_KEYCTL, Jt: 2},
		{Code: equal, K: unix.SYS_ADD_KEY, Jt: 1},
		{Code: equal, K: unix.SYS_REQUEST_KEY, Jf: 1},
		{Code: give, K: errno},
		{Code: give, K: unix.SECCOMP_RET_ALLOW},
	}
	p := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	_, _, e := unix.Syscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(f)
	if e != 0 {
		return fmt.Errorf("refuse access to keys: %w", e)
	}
	return nil
}
