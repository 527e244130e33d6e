//go:build unix

package instance

import (
	"os"
	"os/signal"
	"syscall"
)

// signalNumbers are Linux' numbers: the command runs there, wherever we run.
func signalNumbers() map[os.Signal]int {
	return map[os.Signal]int{
		syscall.SIGHUP: 1, syscall.SIGINT: 2, syscall.SIGQUIT: 3, syscall.SIGABRT: 6,
		syscall.SIGUSR1: 10, syscall.SIGUSR2: 12, syscall.SIGTERM: 15, syscall.SIGCONT: 18,
		syscall.SIGTSTP: 20, syscall.SIGTTIN: 21, syscall.SIGTTOU: 22,
	}
}

func watchSignals(to chan<- os.Signal, interactive bool) (stop func()) {
	sigs := []os.Signal{}
	for s := range signalNumbers() {
		sigs = append(sigs, s)
	}
	if interactive {
		sigs = append(sigs, syscall.SIGWINCH)
	}
	signal.Notify(to, sigs...)
	return func() { signal.Stop(to) }
}

// watchSize tells of new window sizes.
func watchSize(to chan<- os.Signal) (stop func()) {
	signal.Notify(to, syscall.SIGWINCH)
	return func() { signal.Stop(to) }
}

func isResize(s os.Signal) bool { return s == syscall.SIGWINCH }

func signalNumber(s os.Signal) int { return signalNumbers()[s] }
