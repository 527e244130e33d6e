package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/gorilla/websocket"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

type exec struct {
	*cli.App
	env              []string
	mode, cwd        string
	user, group      uint32
	forceInteractive bool
	forceNon         bool
	noStdin          bool
}

// Exec builds "lxc exec".
func Exec(a *cli.App) *cobra.Command {
	c := &exec{App: a}
	cmd := cli.Command(cli.Help{
		Use: "exec [<remote>:]<instance> [flags] [--] <command line>", Short: i18n.G("Execute commands in instances"),
		Long:    i18n.G("The command runs without a shell, so variables and redirections are not understood;\nwhere they are needed, run a shell. The exit code is that of the command.\n\nA terminal is given to the command when stdin and stdout are terminals."),
		Example: "lxc exec c1 -- bash\nlxc exec c1 --cwd /tmp --env LANG=C -- sh -c \"ls > list\"",
	}, 2, -1, c.run)
	f := cmd.Flags()
	f.SetInterspersed(true)
	f.StringArrayVar(&c.env, "env", nil, i18n.G("Environment variable to set (e.g. HOME=/home/foo)")+"``")
	f.StringVar(&c.mode, "mode", "auto", i18n.G("Override the terminal mode (auto, interactive or non-interactive)")+"``")
	f.BoolVarP(&c.forceInteractive, "force-interactive", "t", false, i18n.G("Force pseudo-terminal allocation"))
	f.BoolVarP(&c.forceNon, "force-noninteractive", "T", false, i18n.G("Disable pseudo-terminal allocation"))
	f.BoolVarP(&c.noStdin, "disable-stdin", "n", false, i18n.G("Disable stdin (reads from /dev/null)"))
	f.Uint32Var(&c.user, "user", 0, i18n.G("User ID to run the command as (default 0)")+"``")
	f.Uint32Var(&c.group, "group", 0, i18n.G("Group ID to run the command as (default 0)")+"``")
	f.StringVar(&c.cwd, "cwd", "", i18n.G("Directory to run the command in (default /root)")+"``")
	return cmd
}

func (c *exec) interactive() (bool, error) {
	if c.forceInteractive && c.forceNon {
		return false, errors.New(i18n.G("You can't pass -t and -T at the same time"))
	}
	if c.mode != "auto" && (c.forceInteractive || c.forceNon) {
		return false, errors.New(i18n.G("You can't pass -t or -T at the same time as --mode"))
	}
	switch {
	case !slices.Contains([]string{"auto", "interactive", "non-interactive"}, c.mode):
		return false, fmt.Errorf(i18n.G("Unknown mode %q, there are auto, interactive and non-interactive"), c.mode)
	case c.forceNon, c.mode == "non-interactive", c.noStdin:
		return false, nil
	case c.forceInteractive, c.mode == "interactive":
		return true, nil
	}
	_, in := cli.Terminal(c.In)
	_, out := cli.Terminal(c.Out)
	return in && out, nil
}

func (c *exec) run(cmd *cobra.Command, args []string) error {
	r, err := c.Named(cmd, args[0], i18n.G("Missing instance name"))
	if err != nil {
		return err
	}
	interactive, err := c.interactive()
	if err != nil {
		return err
	}
	env := map[string]string{}
	if t := c.Getenv("TERM"); t != "" {
		env["TERM"] = t
	}
	for _, kv := range c.env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	req := api.InstanceExecPost{
		Command: args[1:], WaitForWS: true, Interactive: interactive, Environment: env,
		User: c.user, Group: c.group, Cwd: c.cwd,
	}
	outFd, outTTY := cli.Terminal(c.Out)
	if interactive && outTTY {
		if req.Width, req.Height, err = term.GetSize(outFd); err != nil {
			return err
		}
	}
	restore, err := c.raw(interactive)
	if err != nil {
		return err
	}
	defer restore()

	stdin := io.NopCloser(c.In)
	if c.noStdin {
		stdin = io.NopCloser(strings.NewReader(""))
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	execArgs := client.InstanceExecArgs{
		Stdin: stdin, Stdout: nopCloser{c.Out}, Stderr: nopCloser{c.Err}, DataDone: make(chan bool),
		Control: func(conn *websocket.Conn) { forward(ctx, conn, interactive, outFd) },
	}
	op, err := r.Server.ExecInstance(r.Name, req, &execArgs)
	if err != nil {
		return err
	}
	err = op.Wait()
	last := op.Get()
	if code, ok := last.Metadata["return"].(float64); ok {
		// A command that could not be run fails the operation but has a code, too.
		c.ExitCode = int(code)
	}
	if err == nil || c.ExitCode != 0 {
		<-execArgs.DataDone
	}
	cancel()
	if err != nil {
		return err
	}
	return nil
}

// raw switches the terminal to raw mode and returns how to switch back.
func (c *exec) raw(interactive bool) (restore func(), err error) {
	fd, tty := cli.Terminal(c.In)
	if !interactive || !tty {
		return func() {}, nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(fd, state) }, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// forward passes signals and window sizes on, until ctx ends.
func forward(ctx context.Context, conn *websocket.Conn, interactive bool, outFd int) {
	signals := make(chan os.Signal, 10)
	stop := watchSignals(signals, interactive)
	defer stop()
	defer func() {
		_ = conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
		_ = conn.Close()
	}()
	// Reading answers the server's pings.
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-gone:
			return
		case sig := <-signals:
			var err error
			if isResize(sig) {
				if w, h, serr := term.GetSize(outFd); serr == nil {
					err = conn.WriteJSON(api.InstanceExecControl{
						Command: "window-resize",
						Args:    map[string]string{"width": strconv.Itoa(w), "height": strconv.Itoa(h)},
					})
				}
			} else if n := signalNumber(sig); n > 0 {
				err = conn.WriteJSON(api.InstanceExecControl{Command: "signal", Signal: n})
			}
			if err != nil {
				return
			}
		}
	}
}
