package lxc

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

func rlimitNumber(name string) (int, bool) {
	names := map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
		"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
		"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
		"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}
	n, ok := names[strings.ToLower(name)]
	return n, ok
}

// parseRlimit turns "nofile", "1024:unlimited" into what the shim takes.
func parseRlimit(name, value string) (string, error) {
	n, ok := rlimitNumber(name)
	if !ok {
		return "", errs.Invalid("Resource limit %q is not known", name)
	}
	soft, hard, ok := strings.Cut(value, ":")
	if !ok {
		hard = soft
	}
	num := func(s string) (uint64, error) {
		if s = strings.TrimSpace(s); s == "unlimited" {
			return math.MaxUint64, nil
		}
		return strconv.ParseUint(s, 10, 64)
	}
	a, err := num(soft)
	if err != nil {
		return "", errs.Invalid("Resource limit %s: %q is not SOFT:HARD", name, value)
	}
	b, err := num(hard)
	if err != nil {
		return "", errs.Invalid("Resource limit %s: %q is not SOFT:HARD", name, value)
	}
	return fmt.Sprintf("%d %d %d", n, a, b), nil
}

// parseSignal reads a signal as liblxc writes it: "SIGPWR", "PWR", "30",
// "SIGRTMIN+3". 0 for what cannot be read.
func parseSignal(s string) syscall.Signal {
	s = strings.ToUpper(strings.TrimSpace(s))
	if n, err := strconv.Atoi(s); err == nil {
		return syscall.Signal(n)
	}
	s = strings.TrimPrefix(s, "SIG")
	if plus, ok := strings.CutPrefix(s, "RTMIN+"); ok {
		if n, err := strconv.Atoi(plus); err == nil {
			return syscall.Signal(rtmin + n)
		}
	}
	return unix.SignalNum("SIG" + s)
}
