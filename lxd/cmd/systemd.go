package cmd

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"

	"sett/shared/errs"
)

// inherited returns the API socket when a service manager handed it over, or nil.
func inherited() (net.Listener, error) {
	var found net.Listener
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f) // a copy; f itself is not needed any more
		_ = f.Close()
		if err != nil {
			return nil, errs.Invalid("The service manager handed over %s, which is no socket that listens: %v", f.Name(), err)
		}
		if l.Addr().Network() != "unix" || found != nil {
			_ = l.Close()
			return nil, errs.Invalid("The service manager handed over the socket %s; one unix socket is what the daemon takes", l.Addr())
		}
		found = l
	}
	return found, nil
}

// tell notifies the service manager, if there is one.
func tell(log *slog.Logger) func(state string) {
	return func(state string) {
		if _, err := sd.SdNotify(false, state); err != nil {
			log.Warn("Could not notify the service manager", "state", state, "err", err)
		}
	}
}

// watchdog pings the service manager for as long as alive says that the daemon
// does its work. When it stops, the service manager starts the daemon anew.
func watchdog(ctx context.Context, log *slog.Logger, alive func(context.Context) error) {
	limit, err := sd.SdWatchdogEnabled(true)
	if err != nil {
		log.Warn("The service manager's watchdog cannot be served", "err", err)
	}
	if err != nil || limit == 0 {
		return
	}
	tick := time.NewTicker(limit / 3)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, limit/3)
		err := alive(try)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			tell(log)(sd.SdNotifyWatchdog)
		default:
			log.Error("The daemon does not answer on its own socket", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
