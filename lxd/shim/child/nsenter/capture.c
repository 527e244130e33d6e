#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nsenter.h"

/*
 * liblxc compiles a policy in a process of its own making and keeps the result
 * to itself. A symbol of the program goes before that of a library, so this
 * seccomp_load is the one that liblxc calls: it writes the filter into memory
 * that the start verb shares, then lets libseccomp load it. libseccomp is
 * looked up at run time: we link only what liblxc links.
 */

enum { ROOM = 256 << 10 };

struct capture {
	uint64_t size;
	char data[];
};

static struct capture *shared;
static int listens, native_only;
static int listener = -1;

int sett_capture_prepare(int listen, int no_compat)
{
	void *p = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -1;
	shared = p;
	listens = listen;
	native_only = no_compat;
	return 0;
}

const void *sett_capture_get(size_t *size)
{
	if (!shared || shared->size == 0)
		return NULL;
	*size = (size_t)shared->size;
	return shared->data;
}

/*
 * A policy for liblxc cannot speak of all calls of a kind of programs. liblxc adds
 * the 32-bit ones where the CPU knows them; without them a call of theirs is one of a
 * "bad architecture", to which the answer is ENOSYS.
 */
static int drop_compat(void *ctx)
{
	enum { BAD_ARCH = 2, NOT_THERE = EEXIST };
	static const uint32_t compat[] = { 0x40000003 /* i386 */, 0x4000003e /* x32 */, 0x40000028 /* arm */ };
	int (*remove)(void *, uint32_t) = (int (*)(void *, uint32_t))dlsym(RTLD_NEXT, "seccomp_arch_remove");
	int (*set)(void *, int, uint32_t) = (int (*)(void *, int, uint32_t))dlsym(RTLD_NEXT, "seccomp_attr_set");
	if (!remove || !set || sizeof(long) != 8)
		return -ENOSYS;
	for (size_t i = 0; i < sizeof(compat) / sizeof(compat[0]); i++) {
		int r = remove(ctx, compat[i]);
		if (r < 0 && r != -NOT_THERE)
			return r;
	}
	return set(ctx, BAD_ARCH, SECCOMP_RET_ERRNO | ENOSYS);
}

int sett_filter_listen(const void *filter, size_t size)
{
	struct sock_fprog prog = { (unsigned short)(size / sizeof(struct sock_filter)), (struct sock_filter *)filter };
	/* Who waits for an answer is then woken by deadly signals only: programs in Go send
	   themselves others all the time, and would ask again for what has been done. */
	enum { LISTEN = 1 << 3, KILLABLE = 1 << 5 };
	int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, LISTEN | KILLABLE, &prog);
	if (fd < 0 && errno == EINVAL) /* before Linux 5.19 */
		fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, LISTEN, &prog);
	return fd;
}

__attribute__((visibility("default"))) int seccomp_load(void *ctx)
{
	int (*load)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "seccomp_load");
	int (*save)(void *, int) = (int (*)(void *, int))dlsym(RTLD_NEXT, "seccomp_export_bpf");
	if (!load)
		return -ENOSYS;
	if (shared && native_only) {
		int r = drop_compat(ctx);
		if (r < 0)
			return r;
	}
	if (shared && save) {
		int fd = memfd_create("filter", MFD_CLOEXEC);
		if (fd >= 0 && save(ctx, fd) == 0) {
			ssize_t n = pread(fd, shared->data, ROOM - sizeof(*shared), 0);
			if (n > 0 && (size_t)n < ROOM - sizeof(*shared))
				shared->size = (uint64_t)n;
		}
		if (fd >= 0)
			close(fd);
	}
	if (!shared || !listens)
		return load(ctx);
	if (shared->size == 0)
		return -ENOSYS;
	listener = sett_filter_listen(shared->data, (size_t)shared->size);
	return listener < 0 ? -errno : 0;
}

/* liblxc asks for the descriptor that it believes libseccomp to have. */
__attribute__((visibility("default"))) int seccomp_notify_fd(const void *ctx)
{
	int (*real)(const void *) = (int (*)(const void *))dlsym(RTLD_NEXT, "seccomp_notify_fd");
	if (listener >= 0)
		return listener;
	return real ? real(ctx) : -ENOSYS;
}
