package instance

import (
	"os"
	"os/signal"
)

func watchSignals(to chan<- os.Signal, _ bool) (stop func()) {
	signal.Notify(to, os.Interrupt)
	return func() { signal.Stop(to) }
}

// Windows tells nobody about window sizes.
func watchSize(chan<- os.Signal) (stop func()) { return func() {} }

func isResize(os.Signal) bool { return false }

func signalNumber(s os.Signal) int {
	if s == os.Interrupt {
		return 2
	}
	return 0
}
