package fake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/shared/errs"
)

// Command is a program of the fake guest. Its result is the exit status. It ends
// when ctx does: that is how a signal reaches those that do not read Signals.
type Command func(ctx context.Context, c *Call) int

// Call is one run of a Command.
type Call struct {
	container.ExecSpec
	In       io.Reader
	Out, Err io.Writer
	Guest    *Guest
	// Signals gets a copy of what is sent to the command. HUP, INT, TERM and KILL end
	// it all the same.
	Signals <-chan syscall.Signal
	// Resized gets "WIDTHxHEIGHT" at every resize of the terminal.
	Resized <-chan string
}

type execution struct {
	pid     int
	cancel  context.CancelFunc
	term    *terminal
	signals chan syscall.Signal
	resized chan string
	done    chan struct{}

	mu   sync.Mutex
	sig  syscall.Signal
	code int
}

func (x *execution) deliver(sig syscall.Signal) {
	x.mu.Lock()
	defer x.mu.Unlock()
	select {
	case x.signals <- sig:
	default:
	}
	switch sig {
	case syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP:
		if x.sig == 0 {
			x.sig = sig
		}
		x.cancel()
	}
}

// Exec implements container.Process.
func (p *process) Exec(ctx context.Context, s container.ExecSpec) (container.Exec, error) {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return nil, errs.Invalid("A command is needed to execute something in %s", p.g.spec.ID)
	}
	var x *execution
	var call *Call
	var closers []io.Closer
	err := p.do(ctx, Exec, func(g *Guest) error {
		if g.state == container.Frozen {
			return errs.Invalid("Container %s is frozen; unfreeze it first", g.spec.ID)
		}
		g.engine.mu.Lock()
		g.engine.pid++
		pid := g.engine.pid
		g.engine.mu.Unlock()
		run, cancel := context.WithCancel(context.Background())
		x = &execution{pid: pid, cancel: cancel, signals: make(chan syscall.Signal, 16), resized: make(chan string, 16), done: make(chan struct{})}
		call = &Call{ExecSpec: s, Guest: g, Signals: x.signals, Resized: x.resized}
		if s.PTY {
			inR, inW, err := os.Pipe()
			if err != nil {
				return err
			}
			outR, outW, err := os.Pipe()
			if err != nil {
				return err
			}
			x.term = &terminal{r: outR, w: inW, resized: x.resized}
			call.In, call.Out, call.Err = inR, outW, outW
			closers = append(closers, inR, outW)
		} else {
			// The caller may close its ends as soon as this returns, as with a real process.
			in, err := dup(s.Stdin)
			if err != nil {
				return err
			}
			out, err := dup(s.Stdout)
			if err != nil {
				return err
			}
			er, err := dup(s.Stderr)
			if err != nil {
				return err
			}
			call.In, call.Out, call.Err = in, out, er
			closers = append(closers, in, out, er)
		}
		g.signals[x] = struct{}{}
		cmd := g.engine.command(s.Command[0])
		go x.run(run, g, cmd, call, closers)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return x, nil
}

func dup(f *os.File) (*os.File, error) {
	if f == nil {
		return os.OpenFile(os.DevNull, os.O_RDWR, 0)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func (e *Engine) command(name string) Command {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.commands[name]; c != nil {
		return c
	}
	return e.commands[path.Base(name)]
}

func (x *execution) run(ctx context.Context, g *Guest, cmd Command, call *Call, closers []io.Closer) {
	code := 127
	if cmd != nil {
		result := make(chan int, 1)
		go func() { result <- cmd(ctx, call) }()
		select {
		case code = <-result:
		case <-ctx.Done():
			x.mu.Lock()
			code = 128 + int(x.sig)
			x.mu.Unlock()
		}
	}
	for _, c := range closers {
		_ = c.Close()
	}
	g.mu.Lock()
	delete(g.signals, x)
	g.mu.Unlock()
	x.code = code
	close(x.done)
	x.cancel()
}

func (x *execution) PID() int { return x.pid }

func (x *execution) Terminal() container.Terminal {
	if x.term == nil {
		return nil
	}
	return x.term
}

func (x *execution) Signal(sig syscall.Signal) error {
	select {
	case <-x.done:
		return os.ErrProcessDone
	default:
	}
	x.deliver(sig)
	return nil
}

func (x *execution) Wait(ctx context.Context) (int, error) {
	select {
	case <-x.done:
		return x.code, nil
	case <-ctx.Done():
		return -1, ctx.Err()
	}
}

type terminal struct {
	r, w    *os.File
	resized chan<- string
}

func (t *terminal) Resize(width, height int) error {
	select {
	case t.resized <- fmt.Sprintf("%dx%d", width, height):
	default:
	}
	return nil
}

func (t *terminal) Read(b []byte) (int, error)  { return t.r.Read(b) }
func (t *terminal) Write(b []byte) (int, error) { return t.w.Write(b) }
func (t *terminal) Close() error                { return errors.Join(t.w.Close(), t.r.Close()) }

func builtins() map[string]Command {
	return map[string]Command{
		"true":  func(context.Context, *Call) int { return 0 },
		"false": func(context.Context, *Call) int { return 1 },
		"echo": func(_ context.Context, c *Call) int {
			fmt.Fprintln(c.Out, strings.Join(c.Command[1:], " "))
			return 0
		},
		"cat": func(_ context.Context, c *Call) int { _, _ = io.Copy(c.Out, c.In); return 0 },
		"env": func(_ context.Context, c *Call) int {
			for _, v := range c.Env {
				fmt.Fprintln(c.Out, v)
			}
			return 0
		},
		"pwd": func(_ context.Context, c *Call) int {
			dir := c.Cwd
			if dir == "" {
				dir = "/"
			}
			fmt.Fprintln(c.Out, dir)
			return 0
		},
		"id": func(_ context.Context, c *Call) int {
			if len(c.Command) > 1 && c.Command[1] == "-g" {
				fmt.Fprintln(c.Out, c.GID)
			} else {
				fmt.Fprintln(c.Out, c.UID)
			}
			return 0
		},
		"tty": func(_ context.Context, c *Call) int {
			if !c.PTY {
				fmt.Fprintln(c.Out, "not a tty")
				return 1
			}
			fmt.Fprintln(c.Out, "/dev/pts/0")
			return 0
		},
		"sleep": func(ctx context.Context, c *Call) int {
			d, _ := strconv.ParseFloat(append(c.Command, "0")[1], 64)
			t := time.NewTimer(time.Duration(d * float64(time.Second)))
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			return 0
		},
		"sh": func(_ context.Context, c *Call) int {
			if len(c.Command) > 2 && c.Command[1] == "-c" {
				script := c.Command[2]
				if out, ok := strings.CutSuffix(script, ">&2"); ok {
					var b bytes.Buffer
					fmt.Fprintln(&b, strings.TrimSpace(strings.TrimPrefix(out, "echo ")))
					_, _ = c.Err.Write(b.Bytes())
					return 0
				}
				if n, ok := strings.CutPrefix(script, "exit "); ok {
					code, _ := strconv.Atoi(n)
					return code
				}
			}
			return 2
		},
	}
}
