#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nsenter.h"

static void write_all(const void *p, size_t n)
{
	while (n > 0) {
		ssize_t w = send(FD_SOCKET, p, n, MSG_NOSIGNAL);
		if (w < 0) {
			if (errno == EINTR)
				continue;
			return; /* the daemon is gone: nobody to tell */
		}
		p = (const char *)p + w;
		n -= (size_t)w;
	}
}

void answer(enum stage s, int err, int pid)
{
	uint32_t m[4] = { 12, (uint32_t)s, (uint32_t)err, (uint32_t)pid };
	write_all(m, sizeof(m));
}

void fail(enum stage s, int code)
{
	answer(s, errno, 0);
	_exit(code);
}

static int read_all(void *p, size_t n)
{
	while (n > 0) {
		ssize_t r = read(FD_SOCKET, p, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return -1;
		p = (char *)p + r;
		n -= (size_t)r;
	}
	return 0;
}

void request_read(struct request *r)
{
	uint32_t n;
	errno = EPROTO;
	if (read_all(&n, sizeof(n)) < 0 || n > (8u << 20))
		fail(ST_REQUEST, 125);
	r->data = malloc((size_t)n + 1);
	if (!r->data || read_all(r->data, n) < 0)
		fail(ST_REQUEST, 125);
	r->data[n] = 0;
	r->size = n;
	r->at = 0;
}

int request_next(struct request *r, struct field *f)
{
	if (r->at == r->size)
		return 0;
	if (r->size - r->at < 6)
		goto bad;
	f->tag = r->data[r->at];
	memcpy(&f->len, r->data + r->at + 1, 4);
	if (f->len > r->size - r->at - 6)
		goto bad;
	f->value = r->data + r->at + 5;
	if (f->value[f->len] != 0)
		goto bad;
	r->at += 6 + (size_t)f->len;
	return 1;
bad:
	errno = EPROTO;
	fail(ST_REQUEST, 125);
}

/*
 * What is ignored or blocked stays so over exec, and the daemon ignores SIGPIPE (its
 * database asks for that) and SIGHUP where it was started by nohup. A guest's init
 * and what runs below it must find everything as at power-on.
 */
void signals_default(void)
{
	sigset_t none;
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	for (int s = 1; s < NSIG; s++)
		sigaction(s, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * From the moment in which we are in the container's pid namespace its root must
 * not be able to trace us, look at our descriptors or open our binary through
 * /proc. A process that is not dumpable belongs to the initial user namespace in
 * the kernel's eyes. Exec ends that, and so does a change of ids where
 * fs.suid_dumpable is 1, a debugger's setting: there it has to be said again after
 * each of them, and the instant in between cannot be closed.
 */
void hide(void)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		_exit(125);
}

/* glibc hands a constructor the arguments of main. */
__attribute__((constructor)) static void enter(int argc, char **argv)
{
	struct stat st;

	if (argc < 2 || strcmp(argv[0], "lxd-shim") != 0)
		return;
	signals_default(); /* before Go's runtime, which keeps what it finds ignored */
	if (strcmp(argv[1], "exec") != 0 && strcmp(argv[1], "mount") != 0 && strcmp(argv[1], "umount") != 0 &&
	    strcmp(argv[1], "files") != 0 && strcmp(argv[1], "brood") != 0 && strcmp(argv[1], "intercept") != 0)
		return;
	if (fstat(FD_SOCKET, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		dprintf(2, "lxd-shim is run by the daemon\n");
		_exit(125);
	}
	hide();
	for (int fd = FD_SOCKET; fd <= FD_LAST; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	syscall(SYS_close_range, FD_LAST + 1, ~0U, 0);

	char verb = argv[1][0];
	if (verb == 'b')
		verb = verb_brood(); /* from here on in a copy */
	if (verb == 'e')
		verb_exec();
	if (verb == 'm')
		verb_mount();
	if (verb == 'u')
		verb_umount();
	if (verb == 'i')
		verb_intercept(); /* goes on in Go, as the next does */
	else if (verb == 'f')
		verb_files();
	else
		_exit(125);
}
