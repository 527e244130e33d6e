package unpack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"sett/shared/archive"
)

// Verb is the first argument by which a program knows that it is to call Main.
const Verb = "unpack"

// job is what the child is told, as JSON in its second argument.
type job struct {
	Pack   bool           // make an archive of the target on stdout; else unpack
	Format archive.Format // of the archive
	Names  []string       // what to pack, below the target
	Only   []string       // what to take out of a squashfs; empty: all
}

// Descriptors that the child inherits beside the standard three: mounts without a
// place, as open_tree makes them.
const (
	fdTarget  = 3 // of the folder to fill or to read
	fdArchive = 4 // of the archive, when unpacking
)

const (
	exitJail = 120 // the jail could not be built
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
	var j job
	if len(args) != 1 || json.Unmarshal([]byte(args[0]), &j) != nil {
		fmt.Fprintln(os.Stderr, "unpack: not meant to be called by hand")
		return exitJail
	}
	// Capabilities belong to threads: what drops them must be what starts the program.
	runtime.LockOSThread()
	if err := jail(j); err != nil {
		fmt.Fprintln(os.Stderr, "build the jail:", err)
		return exitJail
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
func command(j job) (string, []string) {
	if j.Format == archive.SquashFS {
		if j.Pack {
			return "mksquashfs", nil
		}
		args := []string{"-f", "-n", "-p", "2", "-da", "64", "-fr", "64", "-d", target, archivePath}
		return "unsquashfs", append(args, j.Only...)
	}
	var z []string
	switch j.Format {
	case archive.Gzip:
		z = []string{"--gzip"}
	case archive.Bzip2:
		z = []string{"--bzip2"}
	case archive.XZ:
		z = []string{"--xz"}
	case archive.Zstd:
		z = []string{"--zstd"}
	case archive.LZ4:
		z = []string{"--use-compress-program=lz4"}
	}
	// Other attributes in "security." and "trusted." are for the host's own use, and
	// setting them needs powers that the jail lacks.
	z = append(z, "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=user.*",
		"--xattrs-include=security.capability", "--xattrs-include=system.posix_acl_*", "-C", target)
	if j.Pack {
		return "tar", append(append(z, "--sparse", "-c", "-f", "-", "--"), j.Names...)
	}
	return "tar", append(z, "--same-owner", "--same-permissions", "--warning=no-timestamp",
		"--warning=no-unknown-keyword", "-x", "-f", "-")
}

// jail confines this process. It starts in fresh namespaces, as root.
func jail(j job) error {
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
	if err := os.Mkdir(root+target, 0o700); err != nil {
		return err
	}
	if err := attach(fdTarget, root+target, strict|unix.MS_NOEXEC|readOnlyIf(j.Pack)); err != nil {
		return err
	}
	if j.Format == archive.SquashFS && !j.Pack {
		// unsquashfs wants a name to open.
		if err := os.WriteFile(root+archivePath, nil, 0o600); err != nil {
			return err
		}
		if err := attach(fdArchive, root+archivePath, strict|unix.MS_NOEXEC|unix.MS_RDONLY); err != nil {
			return err
		}
	}
	unix.Close(fdTarget)
	unix.Close(fdArchive)
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

func readOnlyIf(on bool) uintptr {
	if on {
		return unix.MS_RDONLY
	}
	return 0
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
	return nil
}
