#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nsenter.h"

/* Older headers lack some of these; the numbers are the same everywhere we run. */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
enum { MM_F_EMPTY = 4, MM_T_EMPTY = 0x40, ATTR_IDMAP = 0x100000 };

struct attr {
	uint64_t set, clr, propagation, userns;
};

struct plug {
	const char *source;
	char *target, create;
	int fd, recursive, idmap, flags;
	uint64_t set;
};

static void parse(struct request *r, struct plug *p)
{
	struct field f;
	while (request_next(r, &f)) {
		switch (f.tag) {
		case 'S': p->source = f.value; break;
		case 'T': p->target = f.value; break;
		case 'F': p->fd = 1; break;
		case 'R': p->recursive = 1; break;
		case 'i': p->idmap = 1; break;
		case 'C': p->create = f.value[0]; break;
		case 'f': p->flags = (int)strtoul(f.value, NULL, 10); break;
		case 'm': p->set = strtoull(f.value, NULL, 10); break;
		default:
			errno = EPROTO;
			fail(ST_REQUEST, 1);
		}
	}
	if (!p->target) {
		errno = EPROTO;
		fail(ST_REQUEST, 1);
	}
}

static int in_root(int root, const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	/* EAGAIN: something was renamed while the kernel looked. */
	for (int i = 0; i < 32; i++) {
		int fd = (int)syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
		if (fd >= 0 || errno != EAGAIN)
			return fd;
	}
	return -1;
}

/*
 * open_target finds the mount point, or makes it and the folders above it. We
 * are the guest's root in the guest's file system here: whatever symlinks it has
 * laid lead to places of its own.
 */
static int open_target(char *path, char create)
{
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -1;
	int fd = in_root(root, path, O_PATH);
	if (fd >= 0 || errno != ENOENT || !create)
		return fd;
	for (char *slash = path; slash; ) {
		slash = strchr(slash, '/');
		if (slash)
			*slash = 0;
		fd = in_root(root, path, O_PATH);
		if (fd < 0 && errno == ENOENT) {
			char *name = strrchr(path, '/');
			int dir = root;
			if (name) {
				*name = 0;
				dir = in_root(root, path, O_PATH | O_DIRECTORY);
				*name++ = '/';
			} else {
				name = path;
			}
			if (dir < 0)
				return -1;
			if (slash || create == 'd') {
				if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
					return -1;
			} else {
				int f = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
				if (f < 0)
					return -1;
				close(f);
			}
			fd = in_root(root, path, O_PATH);
		}
		if (fd < 0)
			return -1;
		if (slash) {
			close(fd);
			*slash++ = '/';
		}
	}
	return fd;
}

/*
 * lock_flags turns a detached mount into one whose attributes the guest cannot
 * take back. The kernel locks them (read-only, nosuid, ...) when it copies a
 * mount namespace into another user namespace, and only then: a detached mount
 * that goes straight into the guest could be remounted writable there. So it is
 * attached in a namespace of ours, that one is copied by a process that has
 * joined the guest's user namespace, and the copy is what the guest gets.
 */
static int lock_flags(int tree)
{
	struct stat st;
	if (fstat(tree, &st) < 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "/sys", "tmpfs", 0, "mode=0755") < 0)
		return -1;
	if (S_ISDIR(st.st_mode)) {
		if (mkdir("/sys/m", 0755) < 0)
			return -1;
	} else if (mknod("/sys/m", S_IFREG | 0644, 0) < 0) {
		return -1;
	}
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, "/sys/m", MM_F_EMPTY) < 0)
		return -1;
	close(tree);
	if (setns(FD_USERNS, CLONE_NEWUSER) < 0 || unshare(CLONE_NEWNS) < 0)
		return -1;
	return (int)syscall(SYS_open_tree, AT_FDCWD, "/sys/m", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
}

static void become_root(void)
{
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		fail(ST_IDS, 1);
	hide();
	umask(022);
}

void verb_mount(void)
{
	struct request r;
	struct plug p = { 0 };
	unsigned rec;

	request_read(&r);
	parse(&r, &p);
	rec = p.recursive ? AT_RECURSIVE : 0;

	int tree = (int)syscall(SYS_open_tree, p.fd ? FD_SOURCE : AT_FDCWD, p.fd ? "" : p.source,
				OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | rec | (p.fd ? AT_EMPTY_PATH : 0));
	if (tree < 0)
		fail(ST_SOURCE, 1);

	struct attr a = { .set = p.set | (p.idmap ? ATTR_IDMAP : 0), .propagation = MS_PRIVATE, .userns = FD_USERNS };
	if (!p.idmap)
		a.userns = 0;
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | rec, &a, sizeof(a)) < 0)
		fail(ST_ATTR, 1);

	if (p.flags & CLONE_NEWUSER) {
		tree = lock_flags(tree);
		if (tree < 0)
			fail(ST_ATTR, 1);
	}
	if (syscall(SYS_setns, FD_PID, CLONE_NEWNS) < 0)
		fail(ST_SETNS, 1);
	become_root();
	int target = open_target(p.target, p.create);
	if (target < 0)
		fail(ST_TARGET, 1);
	if (syscall(SYS_move_mount, tree, "", target, "", MM_F_EMPTY | MM_T_EMPTY) < 0)
		fail(ST_MOVE, 1);
	answer(ST_DONE, 0, 0);
	_exit(0);
}

void verb_umount(void)
{
	struct request r;
	struct plug p = { 0 };
	char name[16];

	request_read(&r);
	parse(&r, &p);
	/* umount takes a path only: the host's /proc names our descriptor. */
	int self = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (self < 0)
		fail(ST_UMOUNT, 1);
	if (syscall(SYS_setns, FD_PID, p.flags) < 0)
		fail(ST_SETNS, 1);
	become_root();
	int target = open_target(p.target, 0);
	if (target < 0)
		fail(ST_TARGET, 1);
	if (fchdir(self) < 0)
		fail(ST_UMOUNT, 1);
	snprintf(name, sizeof(name), "%d", target);
	if (umount2(name, MNT_DETACH) < 0)
		fail(ST_UMOUNT, 1);
	answer(ST_DONE, 0, 0);
	_exit(0);
}
