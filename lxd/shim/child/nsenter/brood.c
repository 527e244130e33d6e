#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nsenter.h"

/* Above what a verb has for descriptors, below the usual limit of them. */
enum { FD_SPARE = 64, MOST = FD_LAST + 1 };

/* Takes one order: a letter for the verb, and the descriptors that it has from 0 on. */
static int order(char *verb, int *fds)
{
	char room[CMSG_SPACE(MOST * sizeof(int))];
	struct iovec v = { .iov_base = verb, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	ssize_t n;

	do
		n = recvmsg(FD_SOCKET, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		_exit(n < 0); /* the daemon has gone */
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if ((m.msg_flags & MSG_CTRUNC) || !c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		_exit(1);
	int count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	if (count > MOST)
		_exit(1);
	memcpy(fds, CMSG_DATA(c), (size_t)count * sizeof(int));
	return count;
}

/* Puts descriptors where the verb looks for them, and leaves no others. */
static void arrange(const int *fds, int count)
{
	int high[MOST];

	for (int i = 0; i < count; i++)
		if ((high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FD_SPARE)) < 0)
			_exit(125);
	for (int i = 0; i < count; i++)
		if (dup3(high[i], i, i < FD_SOCKET ? 0 : O_CLOEXEC) < 0)
			_exit(125);
	syscall(SYS_close_range, count, ~0U, 0);
}

/*
 * verb_brood waits for orders and makes a process for each. In that process it
 * returns the verb. The start of a program with liblxc in it, loader and all, costs
 * more than all that a command needs after it; a copy of one that has started does
 * not. The copy is the daemon's own child, and knows nothing of orders before it: the
 * requests themselves come on sockets that only the copies read.
 */
char verb_brood(void)
{
	for (;;) {
		char verb = 0;
		int fds[MOST];
		int count = order(&verb, fds);
		long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
		if (pid == 0) {
			arrange(fds, count);
			return verb;
		}
		int32_t says = pid < 0 ? -errno : (int32_t)pid;
		for (int i = 0; i < count; i++)
			close(fds[i]);
		if (send(FD_SOCKET, &says, sizeof(says), MSG_NOSIGNAL) != sizeof(says))
			_exit(1);
	}
}
