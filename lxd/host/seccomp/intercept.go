package seccomp

import (
	"fmt"
	"slices"
	"strings"

	"sett/shared/errs"
)

// Intercept are the calls that the host makes on a guest's behalf, because the kernel
// refuses them to every root user but its own.
type Intercept struct {
	Mknod    bool // of devices that do no harm
	Setxattr bool // of the mark by which overlayfs hides what lies below a folder
	Sched    bool // sched_setscheduler to a real-time class
	Sysinfo  bool // answered with what the container may use
	Mount    bool // of the file systems below

	Allowed []string          // mounted by the kernel
	FUSE    map[string]string // mounted by a program of the guest's in the kernel's place: file system -> program
	Shift   bool              // with the ids of the container
}

func (i Intercept) any() bool { return i.Mknod || i.Setxattr || i.Sched || i.Sysinfo || i.Mount }

// Of st_mode, what says which kind of file; the kind of character devices.
const (
	modeKind = 0o170000
	modeChar = 0o020000
)

// The flags of mount(2) that make something else of it than mounting a file system:
// REMOUNT, BIND, MOVE and the four of propagation. Two of these are also bits of the
// magic number that old programs put in front, so the kernel asks for them too.
const (
	otherMount    = 1<<5 | 1<<12 | 1<<13 | 1<<17 | 1<<18 | 1<<19 | 1<<20
	notAskedMount = otherMount &^ (1<<18 | 1<<19)
	mountMagic    = 0xc0ed0000
	mountMagicAll = 0xffff0000
)

// rules are the lines that have the kernel ask.
func (i Intercept) rules() []string {
	if !i.any() {
		return nil
	}
	// The kernel allows one who answers per filter and all below: a guest that wants to
	// be one must hear that this kernel knows no such thing, or its program fails oddly.
	out := []string{"seccomp errno 22 [1,8,SCMP_CMP_MASKED_EQ,8]"}
	if i.Mknod {
		// No block device is harmless: of those the kernel need not ask.
		out = append(out, fmt.Sprintf("mknod notify [1,%d,SCMP_CMP_MASKED_EQ,%d]", modeChar, modeKind),
			fmt.Sprintf("mknodat notify [2,%d,SCMP_CMP_MASKED_EQ,%d]", modeChar, modeKind))
	}
	if i.Setxattr {
		// The value that matters is one byte long, and few others are. The mask has all
		// lengths that the kernel takes.
		for _, call := range []string{"setxattr", "lsetxattr", "fsetxattr"} {
			out = append(out, call+" notify [3,1,SCMP_CMP_MASKED_EQ,131071]")
		}
	}
	if i.Sched {
		out = append(out, "sched_setscheduler notify")
	}
	if i.Sysinfo {
		out = append(out, "sysinfo notify")
	}
	if i.Mount {
		out = append(out, fmt.Sprintf("mount notify [3,0,SCMP_CMP_MASKED_EQ,%d]", notAskedMount))
		// The calls that mount in many steps cannot be followed. Programs that know them
		// fall back on the old one where a kernel has none of them.
		for _, call := range []string{"fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "move_mount"} {
			out = append(out, fmt.Sprintf("%s errno %d", call, enosys))
		}
	}
	return out
}

// onDisk are the file systems that may be mounted for a guest: those that show what lies
// on a device, which is in the guest's hands anyway, and hugetlbfs, whose size the
// container's limits bound. All others are refused, whatever kernels will bring: they are
// windows to the host or to what the host is connected with (sysfs, 9p, virtiofs, nfsd,
// functionfs), take the host's memory (ramfs), work on paths (ecryptfs), or the guest's
// root mounts them itself (tmpfs, overlay).
var onDisk = []string{
	"adfs", "affs", "befs", "bfs", "btrfs", "cramfs", "efs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "hfsplus", "hpfs",
	"hugetlbfs", "iso9660", "jfs", "minix", "msdos", "nilfs2", "ntfs", "ntfs3", "omfs", "qnx4", "qnx6", "reiserfs", "romfs", "squashfs", "sysv",
	"udf", "ufs", "v7", "vfat", "vxfs", "xfs", "zonefs",
}

// ParseMountAllowed reads a list of file systems.
func ParseMountAllowed(v string) ([]string, error) {
	var out []string
	for _, fs := range strings.Split(v, ",") {
		fs = strings.TrimSpace(fs)
		if fs == "" {
			continue
		}
		if err := checkFS(fs); err != nil {
			return nil, err
		}
		if !slices.Contains(onDisk, fs) {
			return nil, errs.Invalid("File system %q cannot be mounted on a guest's behalf; those of disks can, such as ext4, and hugetlbfs", fs)
		}
		out = append(out, fs)
	}
	return out, nil
}

// ParseMountFUSE reads a list of file systems, each with the program that mounts it.
func ParseMountFUSE(v string) (map[string]string, error) {
	out := map[string]string{}
	for _, pair := range strings.Split(v, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		fs, prog, ok := strings.Cut(pair, "=")
		if !ok || prog == "" || strings.ContainsAny(prog, " \t\n\x00") {
			return nil, errs.Invalid("%q is not a file system and the program for it, such as ext4=fuse2fs", pair)
		}
		if err := checkFS(fs); err != nil {
			return nil, err
		}
		if strings.HasPrefix(fs, "fuse") {
			return nil, errs.Invalid("File system %q is what such programs mount themselves, and no program can do that in their place", fs)
		}
		out[fs] = prog
	}
	return out, nil
}

func checkFS(fs string) error {
	if fs == "" {
		return errs.Invalid("a file system without a name cannot be mounted")
	}
	for _, r := range fs {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("_.-", r) {
			return errs.Invalid("%q is no name of a file system", fs)
		}
	}
	return nil
}
