package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

// What an instance can be waited for.
const (
	waitRunning = "running"
	waitIP      = "ip"
	waitReady   = "ready"
)

// waitFlag waits until an instance that was started can be used.
type waitFlag struct {
	until   string
	timeout int
}

func (w *waitFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.until, "wait", "", i18n.G("Wait until the instance is running, has an address, or says that it is ready (running|ip|ready)")+"``")
	cmd.Flags().Lookup("wait").NoOptDefVal = waitReady
	cmd.Flags().IntVar(&w.timeout, "wait-timeout", 300, i18n.G("How many seconds to wait at most")+"``")
}

// check is for before anything is done.
func (w *waitFlag) check() error {
	switch w.until {
	case "", waitRunning, waitIP, waitReady:
		return nil
	}
	return fmt.Errorf(i18n.G("Unknown word %q for --wait, there are running, ip and ready"), w.until)
}

const (
	waitEvery = 250 * time.Millisecond
	// askTime is how long a command in the guest may take to say how far it is.
	askTime = 20 * time.Second
	// muteTime is how long the init of a guest must have another name than one that tells.
	// One that tells gives itself its name in its first moments.
	muteTime = 3 * time.Second
)

// wait returns when the instance is what was asked for. arg is how the user named it.
func (w *waitFlag) wait(ctx context.Context, r cli.Resource, arg string) error {
	if w.until == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(w.timeout)*time.Second)
	defer cancel()
	r.Server = r.Server.WithContext(ctx)
	g := &guest{r: r}
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	for {
		done, err := w.look(ctx, g, arg)
		if err != nil && ctx.Err() == nil || done {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return w.late(g, arg)
			}
			return ctx.Err()
		}
	}
}

// look reports whether the wait is over.
func (w *waitFlag) look(ctx context.Context, g *guest, arg string) (bool, error) {
	st, _, err := g.r.Server.GetInstanceState(g.r.Name)
	if err != nil {
		return false, err
	}
	switch st.StatusCode {
	case api.Running, api.Ready:
	case api.Stopped, api.Error:
		return false, fmt.Errorf(i18n.G("The instance has stopped while it was waited for; try `lxc info --show-log %s` for more info"), arg)
	default:
		return false, nil
	}
	switch w.until {
	case waitRunning:
		return true, nil
	case waitIP:
		return reachable(st), nil
	}
	if st.StatusCode == api.Ready || g.ready(ctx) {
		return true, nil
	}
	return false, g.mute(arg)
}

// late says what was waited for in vain.
func (w *waitFlag) late(g *guest, arg string) error {
	switch {
	case w.until == waitIP:
		return fmt.Errorf(i18n.G("%s has no address after %d seconds; is there a network device?"), arg, w.timeout)
	case w.until == waitReady && g.init != "" && g.init != systemd:
		return fmt.Errorf(i18n.G("%s has not said within %d seconds that it is ready: its init (%s) cannot tell, and nothing in it has told /dev/lxd"), arg, w.timeout, g.init)
	case w.until == waitReady && g.said != "":
		return fmt.Errorf(i18n.G("%s is not ready after %d seconds; its init says: %s"), arg, w.timeout, g.said)
	}
	return fmt.Errorf(i18n.G("%s is not %s after %d seconds"), arg, w.until, w.timeout)
}

// reachable looks for an address that others can reach.
func reachable(st *api.InstanceState) bool {
	for name, n := range st.Network {
		for _, a := range n.Addresses {
			ip := net.ParseIP(a.Address)
			if name != "lo" && a.Scope == "global" && ip != nil && !ip.IsLoopback() {
				return true
			}
		}
	}
	return false
}

const systemd = "systemd"

// guest is what is known of the init of an instance that is waited for.
type guest struct {
	r    cli.Resource
	init string // the name of its first process; empty while unknown
	said string // by systemd, at last

	since time.Time // when init had this name for the first time
	heard bool      // it can tell /dev/lxd
}

// ready asks the guest's init, if that is one that knows. While a guest boots nearly
// everything may fail, and is tried again.
func (g *guest) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if g.init != systemd { // it has another name in its first moments
		out, err := g.output(ctx, "cat", "/proc/1/comm")
		if err != nil {
			return false
		}
		if out != g.init {
			g.init, g.since = out, time.Now()
		}
	}
	if g.init != systemd {
		return false // it has to tell /dev/lxd, which the state shows
	}
	// Its exit status is not zero for most of its answers. Degraded means that the boot
	// is over and some unit has failed.
	said, err := g.output(ctx, "systemctl", "is-system-running")
	if err != nil {
		return false // also for lack of time, so what it said last still holds
	}
	g.said = said
	return g.said == "running" || g.said == "degraded"
}

// mute is the error of a guest that has no way to say that it is ready. Whether it has the
// one by /dev/lxd is asked once.
func (g *guest) mute(arg string) error {
	if g.heard || g.init == "" || g.init == systemd || time.Since(g.since) < muteTime {
		return nil
	}
	i, _, err := g.r.Server.GetInstance(g.r.Name)
	if err != nil {
		return err
	}
	switch strings.ToLower(i.ExpandedConfig["security.devlxd"]) {
	case "false", "0", "no", "off":
		return fmt.Errorf(i18n.G("%s cannot say that it is ready: its init (%s) does not tell, and security.devlxd is off; wait with --wait=running or --wait=ip"), arg, g.init)
	}
	g.heard = true
	return nil
}

// output runs a command in the guest and returns what it says.
func (g *guest) output(ctx context.Context, command ...string) (string, error) {
	var out bytes.Buffer
	args := client.InstanceExecArgs{Stdin: io.NopCloser(strings.NewReader("")), Stdout: nopCloser{&out}, Stderr: nopCloser{io.Discard}, DataDone: make(chan bool)}
	op, err := g.r.Server.WithContext(ctx).ExecInstance(g.r.Name, api.InstanceExecPost{Command: command, WaitForWS: true}, &args)
	if err != nil {
		return "", err
	}
	if err := op.WaitContext(ctx); err != nil {
		return "", err
	}
	select {
	case <-args.DataDone:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return strings.TrimSpace(out.String()), nil
}
