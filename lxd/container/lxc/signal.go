package lxc

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

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
