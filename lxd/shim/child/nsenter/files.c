#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nsenter.h"

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
enum { MM_F_EMPTY = 4, ATTR_IDMAP = 0x100000 };

struct attr {
	uint64_t set, clr, propagation, userns;
};

struct where {
	int tree, idmap, flags;
	uint64_t set;
};

static void parse(struct request *r, struct where *w)
{
	struct field f;
	while (request_next(r, &f)) {
		switch (f.tag) {
		case 'F': w->tree = 1; break;
		case 'i': w->idmap = 1; break;
		case 'f': w->flags = (int)strtoul(f.value, NULL, 10); break;
		case 'm': w->set = strtoull(f.value, NULL, 10); break;
		default:
			errno = EPROTO;
			fail(ST_REQUEST, 1);
		}
	}
}

/*
 * A copy of the tree's mount becomes all that this process sees of the host: the
 * rest is detached from its mount namespace, so that there is no way back, whatever
 * a link or a rename in the tree does.
 */
static void live_in_tree(const struct where *w)
{
	int tree = (int)syscall(SYS_open_tree, FD_SOURCE, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0)
		fail(ST_SOURCE, 1);
	struct attr a = { .set = w->set | (w->idmap ? ATTR_IDMAP : 0), .propagation = MS_PRIVATE,
			  .userns = w->idmap ? FD_USERNS : 0 };
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0)
		fail(ST_ATTR, 1);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    syscall(SYS_move_mount, tree, "", AT_FDCWD, "/sys", MM_F_EMPTY) < 0 ||
	    fchdir(tree) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
	    chdir("/") < 0)
		fail(ST_MOVE, 1);
	close(tree);
	if ((w->flags & CLONE_NEWUSER) && setns(FD_USERNS, CLONE_NEWUSER) < 0)
		fail(ST_SETNS, 1);
}

/* What a file server needs of root's powers, in whichever user namespace. */
static void drop_powers(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };
	uint32_t keep = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER | 1u << CAP_FSETID;

	d[0].effective = d[0].permitted = keep;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capset, &h, d) < 0)
		fail(ST_CAPS, 1);
}

/*
 * verb_files brings the process to a guest's files and returns: Go serves them. It
 * keeps a view of its own descriptors, which it finds nowhere in the guest's /proc.
 */
void verb_files(void)
{
	struct request r;
	struct where w = { 0 };

	request_read(&r);
	parse(&r, &w);
	set_oom("1000"); /* rather than a guest's own process, in whose group it may write */
	int self = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (self < 0 || dup3(self, FD_SELF, O_CLOEXEC) < 0)
		fail(ST_REQUEST, 1);
	close(self);
	if (dup3(w.tree ? 0 : FD_SOURCE, FD_GROUP, O_CLOEXEC) < 0) /* /dev/null is no group */
		fail(ST_REQUEST, 1);
	if (w.tree)
		live_in_tree(&w);
	else if (syscall(SYS_setns, FD_PID, w.flags) < 0)
		fail(ST_SETNS, 1);
	/* With an id map the supplementary groups of the host mean nothing inside. */
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		fail(ST_IDS, 1);
	umask(0);
	drop_powers();
	hide();
	close(FD_PID);
	close(FD_SOURCE);
	close(FD_USERNS);
	answer(ST_DONE, 0, 0);
}
