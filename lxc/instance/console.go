package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/gorilla/websocket"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

type console struct {
	*cli.App
	kind    string
	showLog bool
	force   bool
}

// Console builds "lxc console".
func Console(a *cli.App) *cobra.Command {
	c := &console{App: a}
	cmd := cli.Command(cli.Help{
		Use: "console [<remote>:]<instance>", Short: i18n.G("Attach to instance consoles"),
		Long:    i18n.G("The console is the terminal that the instance boots on. Ctrl+a q detaches from it,\nCtrl+a twice sends one Ctrl+a."),
		Example: "lxc console c1\nlxc console c1 --show-log",
	}, 1, 1, c.run)
	cmd.Flags().BoolVar(&c.showLog, "show-log", false, i18n.G("Retrieve the instance's console log"))
	cmd.Flags().StringVarP(&c.kind, "type", "t", "console", i18n.G("Type of connection to establish: 'console' for serial console, 'vga' for SPICE graphical output")+"``")
	cmd.Flags().BoolVar(&c.force, "force", false, i18n.G("Take the console over from another client"))
	return cmd
}

func (c *console) run(cmd *cobra.Command, args []string) error {
	r, err := c.Named(cmd, args[0], i18n.G("Missing instance name"))
	if err != nil {
		return err
	}
	if err := checkConsole(c.kind); err != nil {
		return err
	}
	if !c.showLog {
		return attach(cmd.Context(), c.App, r, api.InstanceConsolePost{Type: c.kind, Force: c.force})
	}
	if c.kind != "console" {
		return errors.New(i18n.G("The --show-log flag is only supported for the 'console' output type"))
	}
	log, err := r.Server.GetInstanceConsoleLog(r.Name)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	b, err := io.ReadAll(log)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.Out, "\n%s\n\n%s\n", i18n.G("Console log:"), b)
	return err
}

func checkConsole(kind string) error {
	if kind != "console" && kind != "vga" {
		return fmt.Errorf(i18n.G("Unknown output type %q"), kind)
	}
	return nil
}

// consoleFlag is --console of the commands that start or stop an instance.
type consoleFlag struct{ kind string }

func (f *consoleFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kind, "console", "", i18n.G("Immediately attach to the console")+"``")
	cmd.Flags().Lookup("console").NoOptDefVal = "console"
}

func (f *consoleFlag) check() error {
	if f.kind == "" {
		return nil
	}
	return checkConsole(f.kind)
}

// attach does so when the user asked for it.
func (f *consoleFlag) attach(ctx context.Context, a *cli.App, r cli.Resource) error {
	if f.kind == "" {
		return nil
	}
	return attach(ctx, a, r, api.InstanceConsolePost{Type: f.kind})
}

// attach shows the console of an instance until the user detaches or it stops.
func attach(ctx context.Context, a *cli.App, r cli.Resource, req api.InstanceConsolePost) error {
	inFd, inTTY := cli.Terminal(a.In)
	outFd, outTTY := cli.Terminal(a.Out)
	if outTTY {
		if w, h, err := term.GetSize(outFd); err == nil {
			req.Width, req.Height = w, h
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	leave := make(chan bool)
	keys := &escape{r: a.In, leave: sync.OnceFunc(func() { close(leave) })}
	op, err := r.Server.ConsoleInstance(r.Name, req, &client.InstanceConsoleArgs{
		Terminal: screen{keys, a.Out}, ConsoleDisconnect: leave,
		Control: func(conn *websocket.Conn) { resize(ctx, conn, outFd, outTTY) },
	})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprint(a.Out, i18n.G("To detach from the console, press: <ctrl>+a q")+"\n\r")
	if inTTY {
		state, err := term.MakeRaw(inFd)
		if err != nil {
			keys.leave()
			return err
		}
		defer func() { _ = term.Restore(inFd, state) }()
	}
	return op.WaitContext(ctx)
}

// screen is the user's side of a console.
type screen struct {
	io.Reader
	io.Writer
}

func (screen) Close() error { return nil }

// escape reads keys and finds the ones that detach.
type escape struct {
	r     io.Reader
	leave func()
	begun bool // Ctrl+a was the last key
	ready bytes.Buffer
	err   error
}

const ctrlA = 1

// Read implements io.Reader.
func (e *escape) Read(p []byte) (int, error) {
	for e.ready.Len() == 0 && e.err == nil {
		var in [4096]byte
		n, err := e.r.Read(in[:])
		e.err = err
		e.take(in[:n])
	}
	if e.ready.Len() > 0 {
		return e.ready.Read(p)
	}
	return 0, e.err
}

func (e *escape) take(in []byte) {
	for _, b := range in {
		switch {
		case !e.begun && b == ctrlA:
			e.begun = true
			continue
		case e.begun && b == 'q':
			e.err = io.EOF
			e.leave()
			return
		case e.begun && b != ctrlA:
			e.ready.WriteByte(ctrlA) // it began nothing
		}
		e.begun = false
		e.ready.WriteByte(b)
	}
}

// resize passes window sizes on, until ctx or the connection ends.
func resize(ctx context.Context, conn *websocket.Conn, outFd int, outTTY bool) {
	sizes := make(chan os.Signal, 10)
	if outTTY {
		defer watchSize(sizes)()
	}
	gone := make(chan struct{})
	go func() { // reading answers the server's pings
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
		case <-sizes:
			w, h, err := term.GetSize(outFd)
			if err != nil {
				continue
			}
			if conn.WriteJSON(api.InstanceConsoleControl{
				Command: "window-resize", Args: map[string]string{"width": strconv.Itoa(w), "height": strconv.Itoa(h)},
			}) != nil {
				return
			}
		}
	}
}
