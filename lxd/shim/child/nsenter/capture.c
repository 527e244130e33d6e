#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
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

int sett_capture_prepare(void)
{
	void *p = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -1;
	shared = p;
	return 0;
}

const void *sett_capture_get(size_t *size)
{
	if (!shared || shared->size == 0)
		return NULL;
	*size = (size_t)shared->size;
	return shared->data;
}

__attribute__((visibility("default"))) int seccomp_load(void *ctx)
{
	int (*load)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "seccomp_load");
	int (*save)(void *, int) = (int (*)(void *, int))dlsym(RTLD_NEXT, "seccomp_export_bpf");
	if (!load)
		return -ENOSYS;
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
	return load(ctx);
}
