package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/container/lxc"
	"sett/lxd/daemon"
	"sett/lxd/host/idmap"
	"sett/lxd/host/unpack"
	networks "sett/lxd/network/all"
	"sett/lxd/shim"
	storage "sett/lxd/storage/all"
	"sett/shared/i18n"
	"sett/shared/version"
)

func (e *env) daemonCommand() *cobra.Command {
	var group string
	c := &cobra.Command{
		Use: "lxd", Short: i18n.G("The daemon that manages containers"),
		Long: i18n.G("The daemon that manages containers.\n\nWithout a verb it runs the daemon in the foreground, which is what an init system\ndoes; `lxc` is the program to use it with. The verbs look after the daemon on\nthis machine."),
		Args: func(_ *cobra.Command, args []string) error {
			for _, a := range args {
				if a != "" { // service files of old pass an empty one
					return fmt.Errorf(i18n.G("unknown command %q for \"lxd\""), a)
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return e.daemon(cmd.Context(), group) },
	}
	c.Flags().StringVar(&group, "group", "", i18n.G("Group whose members may use the API, which is as much as being root")+noType)
	return c
}

// daemon runs the daemon until it is told to end.
func (e *env) daemon(ctx context.Context, group string) error {
	if err := needRoot(i18n.G("The daemon")); err != nil {
		return err
	}
	h, file, err := e.logging()
	if err != nil {
		return err
	}
	if file != nil {
		defer file.Close()
	}
	log := slog.New(h)
	slog.SetDefault(log)
	prepareProcess(log)

	listener, err := inherited()
	if err != nil {
		return err
	}
	s := e.catchSignals(log, file)
	defer s.close()
	start, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.early, cancel)()

	var unpacker unpack.Jail
	d, err := daemon.Start(start, daemon.Options{
		Dir: e.dir, Group: group, LogHandler: h, Listener: listener, Engine: func() (container.Engine, error) { return engine(&unpacker) }, Unpacker: &unpacker, IDs: idmap.NewHost(),
		StorageDrivers: storage.New(), NetworkDrivers: networks.Drivers, Tell: tell(log),
	})
	switch {
	case err != nil && s.early.Err() != nil:
		return nil // told to end before it was up
	case err != nil:
		return err
	}
	watch, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	go watchdog(watch, log, e.answers)
	go trim(watch, d)
	if err := s.obey(d, log); err != nil {
		return err
	}
	return d.Err()
}

// engine finds the shim, which serves as the jail's child too: what an image may get
// hold of in there is small, and a copy in memory that nobody can write.
func engine(j *unpack.Jail) (container.Engine, error) {
	s, err := shim.Find()
	if err != nil {
		return nil, err
	}
	j.Command = []string{s.Exe()}
	return lxc.New(s)
}

// answers asks the daemon, over its own socket, for something that it needs its
// database for.
func (e *env) answers(ctx context.Context) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Disconnect()
	_, _, err = c.GetServer()
	return err
}

// trim gives back what the start took and nobody needs again.
func trim(ctx context.Context, d *daemon.Daemon) {
	select {
	case <-d.Ready():
	case <-ctx.Done():
		return
	}
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-t.C:
		debug.FreeOSMemory()
	case <-ctx.Done():
	}
}

// maxFiles is what the daemon asks for: each running instance, client and console
// holds some.
const maxFiles = 1 << 20

// prepareProcess makes the process what a daemon should be, whoever started it.
func prepareProcess(log *slog.Logger) {
	unix.Umask(0o022) // folders of guests must stay open to mapped ids
	raiseFiles(log)
	// A daemon's heap is small and mostly garbage of requests: to collect it seldom costs a few
	// MiB, and to collect it often is felt in each request.
	debug.SetGCPercent(200)
	log.Info("Daemon is starting", "version", version.Version, "sett", version.Sett, "pid", os.Getpid())
}

// raiseFiles lifts the limit of open files by the bare system call: what goes
// through the syscall package is handed down to children too, and guests that find
// a million allowed descriptors walk through all of them.
func raiseFiles(log *slog.Logger) {
	want := unix.Rlimit{Cur: maxFiles, Max: maxFiles}
	if err := prlimit(&want, nil); err == nil {
		return
	}
	var have unix.Rlimit
	err := prlimit(nil, &have)
	if err == nil {
		have.Cur = have.Max
		err = prlimit(&have, nil)
	}
	if err != nil {
		log.Warn("Could not raise the limit of open files", "err", err)
		return
	}
	log.Info("The host bounds the limit of open files", "limit", have.Cur)
}

// signals are what others ask of the daemon without words.
type signals struct {
	c     chan os.Signal
	stop  chan os.Signal // those that ask for an end
	early context.Context
}

// catchSignals takes signals from here on. SIGHUP opens the log anew; a reader of
// standard error that goes away (SIGPIPE) is nothing to die of. Both stay with their
// default for children, as signals that are caught do.
func (e *env) catchSignals(log *slog.Logger, file *logFile) *signals {
	early, cancel := context.WithCancel(context.Background())
	s := &signals{c: make(chan os.Signal, 8), stop: make(chan os.Signal, 8), early: early}
	signal.Notify(s.c, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGPWR, unix.SIGHUP, unix.SIGPIPE)
	go func() {
		defer cancel()
		for sig := range s.c {
			switch sig {
			case unix.SIGPIPE:
			case unix.SIGHUP:
				if file == nil {
					continue
				}
				if err := file.reopen(); err != nil {
					log.Error("Could not open the log file again", "file", file.path, "err", err)
				}
			default:
				cancel()
				select {
				case s.stop <- sig:
				default:
				}
			}
		}
	}()
	return s
}

func (s *signals) close() {
	signal.Stop(s.c)
	close(s.c)
}

// obey waits for the end of the daemon and begins it when a signal asks. Instances
// go on, except on SIGPWR: the machine's power is failing. Who asks for an end a
// second time means it.
func (s *signals) obey(d *daemon.Daemon, log *slog.Logger) error {
	asked := 0
	for {
		select {
		case <-d.Stopped():
			return nil
		case sig := <-s.stop:
			log.Info("Told to end", "signal", sig.String())
			if sig != unix.SIGPWR {
				asked++
			}
			if asked > 1 {
				return errors.New(i18n.G("told to end at once; what was under way is taken up at the next start"))
			}
			d.Stop(sig == unix.SIGPWR, false)
		}
	}
}
