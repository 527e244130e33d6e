// Command guestsys makes system calls inside of a guest, for tests, and prints how they
// ended: "ok", or the name of the error. Programs of the small image do not get
// that far, or ask for more than the one call.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		fail("guestsys CALL [ARGUMENT...], with numbers in the manner of C")
	}
	runtime.LockOSThread()
	a := os.Args[2:]
	switch os.Args[1] {
	case "mknod": // PATH MODE MAJOR MINOR
		say(unix.Mknod(a[0], uint32(num(a[1])), dev(a[2], a[3])))
	case "mknodat": // FOLDER NAME MODE MAJOR MINOR
		d, err := unix.Open(a[0], unix.O_DIRECTORY|unix.O_PATH, 0)
		if err == nil {
			err = unix.Mknodat(d, a[1], uint32(num(a[2])), dev(a[3], a[4]))
		}
		say(err)
	case "mknod-as": // UID UMASK PATH MODE MAJOR MINOR, without capabilities
		unix.Umask(num(a[1]))
		say(firstOf(unix.Setresgid(num(a[0]), num(a[0]), num(a[0])), unix.Setresuid(num(a[0]), num(a[0]), num(a[0])),
			unix.Mknod(a[2], uint32(num(a[3])), dev(a[4], a[5]))))
	case "opaque": // PATH [VALUE]
		v := "y"
		if len(a) > 1 {
			v = a[1]
		}
		say(unix.Setxattr(a[0], "trusted.overlay.opaque", []byte(v), 0))
	case "lopaque":
		say(unix.Lsetxattr(a[0], "trusted.overlay.opaque", []byte("y"), 0))
	case "fopaque":
		d, err := unix.Open(a[0], unix.O_RDONLY, 0)
		if err == nil {
			err = unix.Fsetxattr(d, "trusted.overlay.opaque", []byte("y"), 0)
		}
		say(err)
	case "setxattr": // PATH NAME VALUE
		say(unix.Setxattr(a[0], a[1], []byte(a[2]), 0))
	case "sched": // PID POLICY PRIORITY
		prio := int32(num(a[2]))
		_, _, e := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(num(a[0])), uintptr(num(a[1])), uintptr(unsafe.Pointer(&prio)))
		say(errno(e))
		if e == 0 {
			p, _, _ := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(num(a[0])), 0, 0)
			fmt.Println("policy", p)
		}
	case "sysinfo":
		var s unix.Sysinfo_t
		say(unix.Sysinfo(&s))
		u := uint64(s.Unit)
		fmt.Println("total", s.Totalram*u, "free", s.Freeram*u, "swap", s.Totalswap*u, "uptime", s.Uptime, "procs", s.Procs)
	case "sysinfo-at": // ADDRESS
		_, _, e := unix.Syscall(unix.SYS_SYSINFO, uintptr(num(a[0])), 0, 0)
		say(errno(e))
	case "mount": // SOURCE TARGET TYPE FLAGS OPTIONS
		say(unix.Mount(a[0], a[1], a[2], uintptr(num(a[3])), a[4]))
	case "mkdir":
		say(unix.Mkdir(a[0], 0o755))
	case "int80": // getpid in the manner of 32-bit programs
		fmt.Println(int80(20))
	case "ioctl": // REQUEST
		_, _, e := unix.Syscall(unix.SYS_IOCTL, 0, uintptr(num(a[0])), 0)
		say(errno(e))
	case "listener":
		prog := unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW}}
		_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&prog)))
		say(errno(e))
	case "many": // FOLDER THREADS EACH: nodes made and removed by many at a time
		many(a[0], num(a[1]), num(a[2]))
	case "tease": // FOLDER ROUNDS: the path changes while it is looked at
		tease(a[0], num(a[1]))
	default:
		fail("unknown call " + os.Args[1])
	}
}

func many(dir string, threads, each int) {
	var wg sync.WaitGroup
	bad := make(chan error, threads)
	for t := range threads {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range each {
				p := fmt.Sprintf("%s/n%d-%d", dir, t, n)
				if err := firstOf(unix.Mknod(p, unix.S_IFCHR|0o600, 0), unix.Unlink(p)); err != nil {
					bad <- err
					return
				}
			}
		}()
	}
	wg.Wait()
	select {
	case err := <-bad:
		say(err)
	default:
		say(nil)
	}
}

// tease makes a node at a path that another thread rewrites all the time, to one that
// only the host's root could write at.
func tease(dir string, rounds int) {
	good, evil := dir+"/aaaa\x00", "/proc/1/root/e\x00"
	buf := make([]byte, 64)
	copy(buf, good)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				copy(buf, evil)
				copy(buf, good)
			}
		}
	}()
	for range rounds {
		_, _, _ = unix.Syscall6(unix.SYS_MKNODAT, ^uintptr(99), uintptr(unsafe.Pointer(&buf[0])), unix.S_IFCHR|0o600, 0, 0, 0)
		_ = unix.Unlink(dir + "/aaaa")
	}
	close(stop)
	say(nil)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func errno(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

func dev(major, minor string) int { return int(unix.Mkdev(uint32(num(major)), uint32(num(minor)))) }

func num(s string) int {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		fail(s + " is no number")
	}
	return int(n)
}

func say(err error) {
	if err == nil {
		fmt.Println("ok")
		return
	}
	if e, ok := err.(unix.Errno); ok {
		fmt.Println(unix.ErrnoName(e))
		return
	}
	fmt.Println(strings.TrimSpace(err.Error()))
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}
