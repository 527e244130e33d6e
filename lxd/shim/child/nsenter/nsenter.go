// Package nsenter holds the C of this program: what has to happen before the Go
// runtime has made its threads, because the kernel lets only a process of one
// thread join a user or mount namespace. It runs from a constructor, only in a
// process that was started under the name lxd-shim with one of its verbs, and
// such a process never reaches main.
//
// It also listens to what seccomp filter liblxc loads into a new container, so
// that commands joining later get the very same one.
package nsenter

/*
#cgo CFLAGS: -std=gnu11 -Wall -Wextra -Werror -O2
#include "nsenter.h"
*/
import "C"

import "unsafe"

// PrepareCapture makes room for the filter of a container that is about to start. It
// says whether somebody is to listen to it, and whether it knows 32-bit programs.
func PrepareCapture(listen, noCompat bool) bool {
	return C.sett_capture_prepare(number(listen), number(noCompat)) == 0
}

func number(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// ActorPID is the process that acts for guests (verb intercept).
func ActorPID() int { return int(C.sett_actor_pid()) }

// Captured returns the filter that was loaded, as an array of struct sock_filter.
func Captured() []byte {
	var n C.size_t
	p := C.sett_capture_get(&n)
	if p == nil || n == 0 {
		return nil
	}
	return C.GoBytes(unsafe.Pointer(p), C.int(n))
}
