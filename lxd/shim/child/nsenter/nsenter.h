/* Shared by the parts of nsenter. See package wire for the protocol. */
#ifndef SETT_NSENTER_H
#define SETT_NSENTER_H

#include <stdint.h>
#include <stddef.h>

enum { FD_SOCKET = 3, FD_PID = 4, FD_SOURCE = 5, FD_USERNS = 6, FD_LAST = 6, FD_ACTOR = 8, FD_SELF = 9, FD_GROUP = 10 };

enum stage {
	ST_DONE, ST_PID, ST_REQUEST, ST_CGROUP, ST_LIMITS, ST_SETNS, ST_FORK, ST_TERMINAL,
	ST_LABEL, ST_IDS, ST_CAPS, ST_SECCOMP, ST_CWD, ST_COMMAND, ST_SOURCE, ST_ATTR,
	ST_TARGET, ST_MOVE, ST_UMOUNT,
};

struct field {
	char tag;
	uint32_t len;
	char *value; /* zero-terminated */
};

struct request {
	char *data;
	size_t size, at;
};

void signals_default(void);
void hide(void);
void set_oom(const char *s);
void request_read(struct request *r);
int request_next(struct request *r, struct field *f);
void answer(enum stage s, int err, int pid);
__attribute__((noreturn)) void fail(enum stage s, int code);

__attribute__((noreturn)) void verb_exec(void);
__attribute__((noreturn)) void verb_mount(void);
__attribute__((noreturn)) void verb_umount(void);
void verb_files(void);
char verb_brood(void);
void verb_intercept(void);

int sett_actor_pid(void);
int sett_capture_prepare(int listen, int no_compat);
const void *sett_capture_get(size_t *size);
int sett_filter_listen(const void *filter, size_t size);

#endif
