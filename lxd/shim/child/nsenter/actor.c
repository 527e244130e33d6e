#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "nsenter.h"

/* Older headers lack some of these; the numbers are the same everywhere we run. */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef ST_NODEV
#define ST_NODEV 4
#endif
enum { MM_F_EMPTY = 4, MM_T_EMPTY = 0x40, ATTR_IDMAP = 0x100000 };

/*
 * The actor does what guests may not: see verb_intercept. It lives in an empty
 * file system of its own, and begins a process for each call. That one acts with
 * the host's powers on descriptors only. Which file a guest's path leads to, and
 * whether the guest may do there what it wants, is found out by a second process,
 * the finder, that has become the caller: its root, its user namespace, its ids,
 * its capabilities.
 *
 *      Go (child/intercept.go)      actor        per call          finder
 *      decides, from the            forks ---->  acts    forks --> opens the
 *      caller's memory   --request->                    <--file--  path
 *                        <--errno-----------------
 */

enum { MAX_FDS = 8, MAX_REQUEST = 64 << 10 };

/* The descriptors of a request, in this order; later ones may be missing. */
enum { R_REPLY, R_USERNS, R_ROOT, R_DIR, R_MNTNS, R_NETNS, R_CGROUP };

struct attr {
	uint64_t set, clr, propagation, userns;
};

struct act {
	char op;
	const char *path, *source, *fs, *data;
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t ngroups;
	uint64_t caps;
	mode_t mode, mask;
	unsigned major, minor;
	int flags, block, shift, nofollow, by_fd, pid, policy, priority;
	int fd[MAX_FDS];
	size_t fds;
};

/* What the finder says; the file comes with it. */
struct found {
	int err;
	unsigned major, minor;
};

static int proc_fd = -1; /* the host's /proc */
static pid_t actor_pid;

int sett_actor_pid(void)
{
	return (int)actor_pid;
}

static void __attribute__((noreturn)) done(const struct act *a, int err)
{
	int32_t m = err;
	if (send(a->fd[R_REPLY], &m, sizeof(m), MSG_NOSIGNAL) < 0)
		_exit(1);
	_exit(0);
}

/* A call that has failed has an errno; should it have none, it must not be a success. */
static void __attribute__((noreturn)) failed(const struct act *a)
{
	done(a, errno ? errno : EPERM);
}

static int send_found(int sock, const struct found *f, int fd)
{
	char buf[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec v = { (void *)f, sizeof(*f) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	if (fd >= 0) {
		m.msg_control = buf;
		m.msg_controllen = sizeof(buf);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	return sendmsg(sock, &m, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* receive reads one message with at most MAX_FDS descriptors. */
static ssize_t receive(int sock, void *data, size_t size, int *fds, size_t *nfds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} u;
	struct iovec v = { data, size };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof(u.buf) };
	ssize_t n;

	*nfds = 0;
	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k && *nfds < MAX_FDS; i++)
			memcpy(&fds[(*nfds)++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		errno = EMSGSIZE;
		return -1;
	}
	return n;
}

static int set_caps(uint64_t caps)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { 0 } };
	d[0].effective = d[0].permitted = (uint32_t)caps;
	d[1].effective = d[1].permitted = (uint32_t)(caps >> 32);
	return (int)syscall(SYS_capset, &h, d);
}

/* keep_caps makes all that is permitted effective again. */
static int keep_caps(void)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	if (syscall(SYS_capget, &h, d) < 0)
		return -1;
	d[0].effective = d[0].permitted;
	d[1].effective = d[1].permitted;
	return (int)syscall(SYS_capset, &h, d);
}

/* take_ids gives us the ids of the caller, as the host counts them, and leaves our powers. */
static int take_ids(const struct act *a)
{
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(a->ngroups, a->groups) < 0 ||
	    setresgid(a->gid, a->gid, a->gid) < 0 || setresuid(a->uid, a->uid, a->uid) < 0)
		return -1;
	hide();
	return keep_caps();
}

static int open_path(const char *path, uint64_t flags)
{
	/* A magic link leads to what some process has open: not what the path says. */
	struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS };
	if (!*path) {
		errno = ENOENT;
		return -1;
	}
	return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

static int may(int fd, int what)
{
	return (int)syscall(SYS_faccessat2, fd, "", what, AT_EMPTY_PATH | AT_EACCESS);
}

static int find_file(const struct act *a, struct found *f)
{
	struct stat st;
	int fd, src;

	switch (a->op) {
	case 'k': /* the folder of a new file */
		fd = open_path(a->path, O_PATH | O_DIRECTORY);
		if (fd < 0 || may(fd, W_OK | X_OK) < 0)
			return -1;
		return fd;
	case 'x':
		fd = a->by_fd ? a->fd[R_DIR] : open_path(a->path, O_PATH | (a->nofollow ? O_NOFOLLOW : 0));
		if (fd < 0 || may(fd, W_OK) < 0)
			return -1;
		return fd;
	case 'm':
		fd = open_path(a->path, O_PATH | O_DIRECTORY);
		if (fd < 0 || !a->block)
			return fd;
		src = open_path(a->source, O_PATH); /* some files do not like to be opened */
		if (src < 0 || fstat(src, &st) < 0 || !S_ISBLK(st.st_mode)) {
			errno = src < 0 ? errno : ENOTBLK;
			return -1;
		}
		close(src);
		src = open_path(a->source, (a->flags & MS_RDONLY ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_NOCTTY);
		if (src < 0 || fstat(src, &st) < 0 || !S_ISBLK(st.st_mode)) {
			errno = src < 0 ? errno : ENOTBLK;
			return -1;
		}
		f->major = major(st.st_rdev);
		f->minor = minor(st.st_rdev);
		close(src);
		return fd;
	}
	errno = EPROTO;
	return -1;
}

/* The finder: from here on we are the guest. */
static void __attribute__((noreturn)) finder(const struct act *a, int sock)
{
	struct found f = { 0 };
	int fd = -1;

	close(a->fd[R_REPLY]); /* who waits shall see when the one that acts has ended */
	if (take_ids(a) == 0 && setns(a->fd[R_USERNS], CLONE_NEWUSER) == 0) {
		hide();
		if (fchdir(a->fd[R_ROOT]) == 0 && chroot(".") == 0 && (a->by_fd || fchdir(a->fd[R_DIR]) == 0) && set_caps(a->caps) == 0)
			fd = find_file(a, &f);
	}
	if (fd < 0)
		f.err = errno ? errno : EPERM;
	send_found(sock, &f, fd);
	_exit(0);
}

static int find(const struct act *a, struct found *f)
{
	int s[2], fds[MAX_FDS];
	size_t n;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) < 0)
		done(a, ENOMEM);
	pid_t pid = fork();
	if (pid < 0)
		done(a, EAGAIN);
	if (pid == 0)
		finder(a, s[1]);
	close(s[1]);
	if (receive(s[0], f, sizeof(*f), fds, &n) != sizeof(*f))
		done(a, EPERM);
	close(s[0]);
	if (f->err)
		done(a, f->err);
	if (n != 1)
		done(a, EPERM);
	return fds[0];
}

/*
 * A device node on a file system that belongs to a user namespace cannot be opened,
 * not even one that the host's root has made: /dev of a container is such a one. An
 * overlay that the guest has mounted takes none at all, because it makes them with
 * the guest's powers. In its place the guest gets a node of ours, mounted over an
 * empty file.
 */
static int node_unusable(int fd)
{
	char self[32];
	struct statfs fs;

	snprintf(self, sizeof(self), "self/fd/%d", fd);
	int on = openat(proc_fd, self, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (on >= 0) {
		close(on);
		return 0;
	}
	/* Where a mount forbids devices somebody wants it so. */
	return errno == EACCES && fstatfs(fd, &fs) == 0 && !(fs.f_flags & ST_NODEV);
}

static int bind_node(const struct act *a, int dir, const char *name)
{
	char ours[64];
	mode_t mode = a->mode & ~a->mask;

	snprintf(ours, sizeof(ours), "/dev/%u:%u-%o-%u-%u", a->major, a->minor, mode, a->uid, a->gid);
	umask(0);
	if (mknod(ours, mode, makedev(a->major, a->minor)) < 0 && errno != EEXIST)
		return -1;
	if (chown(ours, a->uid, a->gid) < 0 || chmod(ours, mode & 07777) < 0)
		return -1;
	int tree = (int)syscall(SYS_open_tree, AT_FDCWD, ours, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return -1;
	int at = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (at < 0)
		return -1;
	if (setns(a->fd[R_MNTNS], CLONE_NEWNS) < 0 || syscall(SYS_move_mount, tree, "", at, "", MM_F_EMPTY | MM_T_EMPTY) < 0) {
		int err = errno;
		unlinkat(dir, name, 0);
		errno = err;
		return -1;
	}
	close(tree); /* see act_mount */
	return 0;
}

static void act_mknod(struct act *a)
{
	struct found f;
	struct stat st;
	char *path = strdup(a->path), *name, *parent;

	if (!path)
		done(a, ENOMEM);
	if (a->fds <= R_MNTNS)
		done(a, EPROTO);
	name = strrchr(path, '/');
	if (!name) {
		name = path;
		parent = ".";
	} else {
		parent = name == path ? "/" : path;
		*name++ = 0;
	}
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		done(a, *a->path ? EEXIST : ENOENT);
	a->path = parent;
	int dir = find(a, &f);
	/* The folder has been found to be the caller's to write to. */
	uint64_t need = 1ULL << CAP_MKNOD | 1ULL << CAP_DAC_OVERRIDE | 1ULL << CAP_CHOWN | 1ULL << CAP_FOWNER | 1ULL << CAP_FSETID |
			1ULL << CAP_SYS_ADMIN | 1ULL << CAP_SYS_CHROOT;
	if (take_ids(a) < 0 || set_caps(need) < 0)
		failed(a);
	umask(a->mask);
	int white = a->major == 0 && a->minor == 0;
	if (mknodat(dir, name, a->mode, makedev(a->major, a->minor)) < 0) {
		if (errno == EPERM && !white && bind_node(a, dir, name) == 0)
			done(a, 0);
		failed(a);
	}
	if (white)
		done(a, 0);
	int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(a->major, a->minor))
		done(a, 0); /* the guest itself has taken it away */
	if (node_unusable(fd) && (unlinkat(dir, name, 0) < 0 || bind_node(a, dir, name) < 0))
		failed(a);
	done(a, 0);
}

static void act_setxattr(struct act *a)
{
	struct found f;
	char name[16];

	int fd = find(a, &f);
	/* setxattr takes a path only: the host's /proc names our descriptor. */
	int self = openat(proc_fd, "self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (self < 0 || fchdir(self) < 0)
		done(a, EPERM);
	snprintf(name, sizeof(name), "%d", fd);
	if (setxattr(name, "trusted.overlay.opaque", "y", 1, a->flags) < 0)
		failed(a);
	done(a, 0);
}

/* Whether a path is of the plainest kind, so that the same can be made elsewhere. */
static int plain(const char *p)
{
	if (*p != '/' || strlen(p) > 512)
		return 0;
	for (; *p; p++)
		if (*p == '/' && (p[1] == '/' || p[1] == 0 || p[1] == '.'))
			return 0;
	return 1;
}

/* make_source puts the device of a file system where its path says, in a root of our own. */
static int make_source(struct act *a, const struct found *f)
{
	if (!plain(a->source))
		a->source = "/source";
	char *p = strdup(a->source);
	if (!p)
		return -1;
	for (char *s = p; (s = strchr(s + 1, '/')); *s = '/') {
		*s = 0;
		if (mkdir(p, 0700) < 0 && errno != EEXIST)
			return -1;
	}
	free(p);
	return mknod(a->source, S_IFBLK | 0600, makedev(f->major, f->minor));
}

/*
 * The file system is mounted in a root that is empty but for its device: paths in
 * its options lead nowhere. What the kernel asks of the devices cgroup it asks of
 * the container's, where we are.
 */
static void act_mount(struct act *a)
{
	struct found f;

	if (a->fds <= R_CGROUP || !a->fs || !a->source)
		done(a, EPROTO);
	if (write(a->fd[R_CGROUP], "0", 1) != 1)
		done(a, EPERM);
	int target = find(a, &f);
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/m", "tmpfs", 0, "mode=0755,size=1m,nr_inodes=512") < 0 ||
	    setns(a->fd[R_NETNS], CLONE_NEWNET) < 0 || chroot("/m") < 0 || mkdir("/.t", 0700) < 0 || chdir("/.t") < 0)
		done(a, EPERM);
	if (a->block && make_source(a, &f) < 0)
		done(a, EPERM);
	if (mount(a->source, ".", a->fs, (unsigned)a->flags, a->data) < 0)
		failed(a);
	int tree = (int)syscall(SYS_open_tree, AT_FDCWD, "/.t", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		failed(a);
	if (a->shift) {
		struct attr at = { .set = ATTR_IDMAP, .userns = (uint64_t)a->fd[R_USERNS] };
		if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &at, sizeof(at)) < 0)
			failed(a);
	}
	if (setns(a->fd[R_MNTNS], CLONE_NEWNS) < 0 || syscall(SYS_move_mount, tree, "", target, "", MM_F_EMPTY | MM_T_EMPTY) < 0)
		failed(a);
	close(tree); /* it keeps the mount busy: the guest may unmount as soon as it has its answer */
	done(a, 0);
}

/* In the guest's pid namespace a number means a process of the guest's, or none. */
static void act_sched(struct act *a)
{
	if (setns(a->fd[R_USERNS], CLONE_NEWPID) < 0)
		done(a, EPERM);
	pid_t pid = fork();
	if (pid < 0)
		done(a, EAGAIN);
	if (pid > 0)
		_exit(0);
	struct sched_param p = { .sched_priority = a->priority };
	if (sched_setscheduler(a->pid, a->policy, &p) < 0)
		failed(a);
	done(a, 0);
}

static int parse_act(struct request *r, struct act *a)
{
	struct field f;
	size_t groups = 0;

	while (request_next(r, &f))
		groups += f.tag == 'G';
	a->groups = calloc(groups + 1, sizeof(gid_t));
	if (!a->groups)
		return ENOMEM;
	r->at = 0;
	while (request_next(r, &f)) {
		switch (f.tag) {
		case 'o': a->op = f.value[0]; break;
		case 'T': a->path = f.value; break;
		case 'S': a->source = f.value; break;
		case 't': a->fs = f.value; break;
		case 'O': a->data = f.value; break;
		case 'u': a->uid = (uid_t)strtoul(f.value, NULL, 10); break;
		case 'g': a->gid = (gid_t)strtoul(f.value, NULL, 10); break;
		case 'G': a->groups[a->ngroups++] = (gid_t)strtoul(f.value, NULL, 10); break;
		case 'k': a->caps = strtoull(f.value, NULL, 10); break;
		case 'M': a->mode = (mode_t)strtoul(f.value, NULL, 10); break;
		case 'K': a->mask = (mode_t)strtoul(f.value, NULL, 10); break;
		case 'D': a->major = (unsigned)strtoul(f.value, NULL, 10); break;
		case 'd': a->minor = (unsigned)strtoul(f.value, NULL, 10); break;
		case 'm': a->flags = (int)strtoul(f.value, NULL, 10); break;
		case 'b': a->block = 1; break;
		case 'i': a->shift = 1; break;
		case 'L': a->nofollow = 1; break;
		case 'F': a->by_fd = 1; break;
		case 'P': a->pid = (int)strtol(f.value, NULL, 10); break;
		case 'Y': a->policy = (int)strtol(f.value, NULL, 10); break;
		case 'y': a->priority = (int)strtol(f.value, NULL, 10); break;
		default: return EPROTO;
		}
	}
	return 0;
}

static void __attribute__((noreturn)) act(struct act *a, struct request *r)
{
	int err = parse_act(r, a);
	if (err)
		done(a, err);
	switch (a->op) {
	case 's':
		if (a->fds > R_USERNS)
			act_sched(a);
		break;
	case 'k':
		if (a->fds > R_DIR && a->path)
			act_mknod(a);
		break;
	case 'x':
		if (a->fds > R_DIR && (a->path || a->by_fd))
			act_setxattr(a);
		break;
	case 'm':
		if (a->path)
			act_mount(a);
		break;
	}
	done(a, EPROTO);
}

/* nowhere leaves us with a root of our own in which there is nothing of the host's. */
static int nowhere(void)
{
	proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc_fd < 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "/sys", "tmpfs", 0, "mode=0755,size=1m,nr_inodes=1024") < 0 || chdir("/sys") < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
	    mkdir("/dev", 0755) < 0 || mkdir("/m", 0755) < 0)
		return -1;
	return 0;
}

static void __attribute__((noreturn)) actor(int sock)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	char *data = malloc(MAX_REQUEST + 1);

	if (!data || nowhere() < 0)
		_exit(1);
	sigaction(SIGCHLD, &ignore, NULL); /* nobody waits for them */
	for (;;) {
		struct act a = { 0 };
		ssize_t n = receive(sock, data, MAX_REQUEST, a.fd, &a.fds);
		if (n == 0 || (n < 0 && errno != EMSGSIZE))
			_exit(0);
		pid_t pid = n > 0 && a.fds > 0 ? fork() : -1;
		if (pid == 0) {
			struct request r = { .data = data, .size = (size_t)n };
			close(sock);
			act(&a, &r);
		}
		for (size_t i = 0; i < a.fds; i++)
			close(a.fd[i]);
	}
}

/*
 * verb_intercept begins the actor and returns: Go reads what guests ask for. Neither
 * belongs to the daemon that has started them: they live as long as the container.
 */
void verb_intercept(void)
{
	int s[2];
	pid_t pid = fork();

	if (pid < 0)
		fail(ST_FORK, 1);
	if (pid > 0)
		_exit(0);
	setsid();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) < 0)
		fail(ST_REQUEST, 1);
	actor_pid = fork();
	if (actor_pid < 0)
		fail(ST_FORK, 1);
	if (actor_pid == 0) {
		close(s[0]);
		close(FD_SOCKET);
		actor(s[1]);
	}
	close(s[1]);
	if (dup3(s[0], FD_ACTOR, O_CLOEXEC) < 0)
		fail(ST_REQUEST, 1);
	close(s[0]);
}
