#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nsenter.h"

#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif

struct command {
	char **argv, **env;
	size_t argc, envc, ngroups;
	gid_t *groups;
	uid_t uid;
	gid_t gid;
	const char *cwd, *label;
	uint64_t caps;
	int flags, pty, no_new_privs, listen;
	struct sock_fprog filter;
	int proc; /* the host's /proc */
	int births[2]; /* folders of groups, the first that takes a process */
	size_t nbirths;
};

static void join_cgroup(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		fail(ST_CGROUP, 125);
	close(fd);
}

/* What are folders of the host now may not be found any more from where we go. */
static void open_births(struct command *c, char *paths)
{
	int err = EPROTO;
	for (char *save, *p = strtok_r(paths, "\n", &save); p && c->nbirths < 2; p = strtok_r(NULL, "\n", &save)) {
		int fd = open(p, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			err = errno;
		else
			c->births[c->nbirths++] = fd;
	}
	errno = err;
	if (!c->nbirths)
		fail(ST_CGROUP, 125);
}

static void set_rlimit(const char *s)
{
	int what;
	unsigned long long soft, hard;
	if (sscanf(s, "%d %llu %llu", &what, &soft, &hard) != 3) {
		errno = EPROTO;
		fail(ST_LIMITS, 125);
	}
	struct rlimit l = { .rlim_cur = (rlim_t)soft, .rlim_max = (rlim_t)hard };
	if (setrlimit((__rlimit_resource_t)what, &l) < 0)
		fail(ST_LIMITS, 125);
}

void set_oom(const char *s)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, s, strlen(s)) < 0)
		fail(ST_LIMITS, 125);
	close(fd);
}

static void parse(struct request *r, struct command *c)
{
	struct field f;
	size_t args = 0, env = 0, groups = 0;

	while (request_next(r, &f)) {
		args += f.tag == 'a';
		env += f.tag == 'e';
		groups += f.tag == 'G';
	}
	c->argv = calloc(args + 1, sizeof(char *));
	c->env = calloc(env + 1, sizeof(char *));
	c->groups = calloc(groups + 1, sizeof(gid_t));
	if (!c->argv || !c->env || !c->groups || args == 0) {
		errno = args ? ENOMEM : EPROTO;
		fail(ST_REQUEST, 125);
	}
	r->at = 0;
	while (request_next(r, &f)) {
		switch (f.tag) {
		case 'a': c->argv[c->argc++] = f.value; break;
		case 'e': c->env[c->envc++] = f.value; break;
		case 'G': c->groups[c->ngroups++] = (gid_t)strtoul(f.value, NULL, 10); break;
		case 'u': c->uid = (uid_t)strtoul(f.value, NULL, 10); break;
		case 'g': c->gid = (gid_t)strtoul(f.value, NULL, 10); break;
		case 'd': c->cwd = f.value; break;
		case 'l': c->label = f.value; break;
		case 'k': c->caps = strtoull(f.value, NULL, 10); break;
		case 'f': c->flags = (int)strtoul(f.value, NULL, 10); break;
		case 'n': c->no_new_privs = 1; break;
		case 'p': c->pty = 1; break;
		case 'N': c->listen = 1; break;
		case 's':
			c->filter.len = (unsigned short)(f.len / sizeof(struct sock_filter));
			c->filter.filter = malloc(f.len + 1);
			if (!c->filter.filter)
				fail(ST_REQUEST, 125);
			memcpy(c->filter.filter, f.value, f.len);
			break;
		case 'c': join_cgroup(f.value); break;
		case 'b': open_births(c, f.value); break;
		case 'r': set_rlimit(f.value); break;
		case 'o': set_oom(f.value); break;
		default:
			errno = EPROTO;
			fail(ST_REQUEST, 125);
		}
	}
}

/* Without a working directory a command begins at home, where there is one. */
static int go_home(char **env)
{
	for (; env && *env; env++)
		if (!strncmp(*env, "HOME=/", 6))
			return chdir(*env + 5);
	return -1;
}

static void set_label(struct command *c)
{
	/* AppArmor's own folder first; the old file serves all modules at once. */
	static const char *const files[] = { "self/attr/apparmor/exec", "self/attr/exec" };
	char buf[512];
	int n = snprintf(buf, sizeof(buf), "exec %s", c->label);
	if (n < 0 || (size_t)n >= sizeof(buf)) {
		errno = ENAMETOOLONG;
		fail(ST_LABEL, 125);
	}
	for (size_t i = 0; i < 2; i++) {
		int fd = openat(c->proc, files[i], O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (write(fd, buf, (size_t)n) != n)
			fail(ST_LABEL, 125);
		close(fd);
		return;
	}
	fail(ST_LABEL, 125);
}

/*
 * load_filter puts the command under the container's filter. Calls that somebody else
 * answers go to whom FD_SOURCE leads; where nobody is, the kernel answers ENOSYS.
 */
static int load_filter(const struct command *c)
{
	if (!c->listen)
		return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &c->filter, 0, 0);
	int fd = sett_filter_listen(c->filter.filter, c->filter.len * sizeof(struct sock_filter));
	if (fd < 0)
		return -1;
	char what = 0, buf[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec v = { &what, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = buf, .msg_controllen = sizeof(buf) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(int));
	sendmsg(FD_SOURCE, &m, MSG_NOSIGNAL);
	close(fd);
	return 0;
}

/* The command's own process, inside all namespaces. */
__attribute__((noreturn)) static void child(struct command *c)
{
	signals_default();
	umask(022);

	if (setsid() < 0 || (c->pty && ioctl(0, TIOCSCTTY, 0) < 0))
		fail(ST_TERMINAL, 125);
	if (c->label)
		set_label(c);

	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		fail(ST_IDS, 125);
	hide();
	/*
	 * The daemon's session keyring stays outside. An old kernel or a used-up quota
	 * refuses a new one; then there was none of ours that the guest could reach,
	 * for keys are looked up by the ids that we have just taken.
	 */
	syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0);

	for (int cap = 0; cap < 64; cap++) {
		if (c->caps & (1ULL << cap))
			continue;
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			fail(ST_CAPS, 125);
	}
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (c->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(ST_CAPS, 125);
	/* Before the ids: loading a filter takes CAP_SYS_ADMIN. */
	if (c->filter.len && load_filter(c) < 0)
		fail(ST_SECCOMP, 125);

	/*
	 * The guest's root leads the way into the folder that was asked for, as with LXD. One
	 * that lets in its user alone (FUSE) is tried once more as that one.
	 */
	int there = c->cwd && c->cwd[0] && chdir(c->cwd) == 0;

	if (setgroups(c->ngroups, c->groups) < 0 || setresgid(c->gid, c->gid, c->gid) < 0 ||
	    setresuid(c->uid, c->uid, c->uid) < 0)
		fail(ST_IDS, 125);
	hide();
	if (c->cwd && c->cwd[0]) {
		if (!there && chdir(c->cwd) < 0)
			fail(ST_CWD, 126);
	} else if (go_home(c->env) < 0 && chdir("/") < 0) {
		fail(ST_CWD, 126);
	}

	/* execvp looks in the PATH of the environment that it finds. */
	environ = c->env;
	execvp(c->argv[0], c->argv);
	fail(ST_COMMAND, errno == ENOENT || errno == ENOTDIR ? 127 : 126);
}

/*
 * The container's cgroup namespace. It is entered last: a host can forbid (nsdelegate) to
 * come into a group from where its namespace does not reach. Who asks init for it then may
 * not be allowed to any more, so it is fetched now, there and back.
 */
static int cgroup_view(void)
{
	static const char path[] = "/proc/self/ns/cgroup";
	int host = open(path, O_RDONLY | O_CLOEXEC);

	if (host < 0 || syscall(SYS_setns, FD_PID, CLONE_NEWCGROUP) < 0)
		fail(ST_SETNS, 125);
	int view = open(path, O_RDONLY | O_CLOEXEC);
	if (view < 0 || setns(host, CLONE_NEWCGROUP) < 0)
		fail(ST_SETNS, 125);
	close(host);
	return view;
}

/*
 * Makes the process for the command: a brother, not a child, for the daemon itself waits
 * for it. It begins in its group of version 2. To move there is what takes long: the
 * kernel holds up every start and end of a process on the host for that, and needs
 * milliseconds before it does. A kernel before 5.7 knows no other way.
 */
static long brother(const struct command *c)
{
	for (size_t i = 0; i < c->nbirths; i++) {
		struct clone_args a = { .flags = CLONE_PARENT | CLONE_INTO_CGROUP, .cgroup = (uint64_t)c->births[i] };
		long pid = syscall(SYS_clone3, &a, sizeof(a));
		if (pid >= 0)
			return pid;
	}
	for (size_t i = 0; i < c->nbirths; i++) {
		int fd = openat(c->births[i], "cgroup.procs", O_WRONLY | O_CLOEXEC);
		if (fd >= 0 && write(fd, "0", 1) == 1) {
			close(fd);
			break;
		}
		if (i + 1 == c->nbirths)
			fail(ST_CGROUP, 125);
		close(fd);
	}
	return syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
}

void verb_exec(void)
{
	struct request r;
	struct command c = { .caps = ~0ULL };

	request_read(&r);
	parse(&r, &c); /* joins the cgroups on the way */
	c.proc = c.label ? open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	int view = c.flags & CLONE_NEWCGROUP ? cgroup_view() : -1;
	if (c.flags && syscall(SYS_setns, FD_PID, c.flags & ~CLONE_NEWCGROUP) < 0)
		fail(ST_SETNS, 125);

	long pid = brother(&c);
	if (pid < 0)
		fail(ST_FORK, 125);
	if (pid == 0) {
		if (view >= 0 && setns(view, CLONE_NEWCGROUP) < 0)
			fail(ST_SETNS, 125);
		child(&c);
	}
	answer(ST_PID, 0, (int)pid);
	_exit(0);
}
