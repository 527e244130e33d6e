package seccomp

import "golang.org/x/sys/unix"

const (
	nativeArch = unix.AUDIT_ARCH_AARCH64
	nrMknod    = -1 // this architecture has mknodat only
)
