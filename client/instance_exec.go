package client

import (
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"

	"sett/shared/api"
	"sett/shared/ws"
)

// InstanceExecClient runs commands in instances.
type InstanceExecClient interface {
	ExecInstance(name string, exec api.InstanceExecPost, args *InstanceExecArgs) (Operation, error)
}

// InstanceExecArgs connects a command to the world.
type InstanceExecArgs struct {
	Stdin  io.ReadCloser  // nil: the command reads nothing
	Stdout io.WriteCloser // nil: dropped
	Stderr io.WriteCloser // nil: dropped; an interactive command has only stdout
	// Control gets the websocket for window sizes and signals; it runs in a
	// goroutine of its own.
	Control func(conn *websocket.Conn)
	// DataDone is closed when all output was written.
	DataDone chan bool
}

// ExecInstance runs a command. The exit code is in the operation's metadata
// under "return". With args nil or WaitForWS false nothing is connected.
func (r *ProtocolLXD) ExecInstance(name string, exec api.InstanceExecPost, args *InstanceExecArgs) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPost, path("instances", name, "exec"), exec, "")
	if err != nil || args == nil || !exec.WaitForWS {
		return op, err
	}
	secrets, err := execSecrets(op.Get().Metadata)
	if err != nil {
		return nil, err
	}

	if args.Control == nil {
		delete(secrets, "control")
	}
	conns, err := connectAll(op, secrets)
	if err != nil {
		return nil, err
	}
	if c := conns["control"]; c != nil {
		go args.Control(c)
	}
	if exec.Interactive {
		connectTerminal(conns["0"], args)
	} else {
		connectPipes(conns, args)
	}
	return op, nil
}

func execSecrets(metadata map[string]any) (map[string]string, error) {
	fds, ok := metadata["fds"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("Server answered without websockets for the command")
	}
	out := map[string]string{}
	for fd, secret := range fds {
		s, ok := secret.(string)
		if !ok {
			return nil, fmt.Errorf("Server answered with a bad secret for stream %q", fd)
		}
		out[fd] = s
	}
	return out, nil
}

// connectAll opens the websockets, all at once: the server starts the command when the
// last stream has connected. The control may come later, and too late for a command that
// has ended by then.
func connectAll(op Operation, secrets map[string]string) (map[string]*websocket.Conn, error) {
	conns, errs := map[string]*websocket.Conn{}, map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for fd, secret := range secrets {
		wg.Go(func() {
			c, err := op.GetWebsocket(secret)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs[fd] = err
			} else {
				conns[fd] = c
			}
		})
	}
	wg.Wait()
	if errs["control"] != nil && len(errs) == 1 && op.Refresh() == nil && op.Get().StatusCode.IsFinal() {
		return conns, nil
	}
	for _, err := range errs {
		for _, c := range conns {
			_ = c.Close()
		}
		return nil, err
	}
	return conns, nil
}

// connectTerminal joins the one websocket of an interactive command.
func connectTerminal(conn *websocket.Conn, args *InstanceExecArgs) {
	c := ws.New(conn)
	if args.Stdin != nil {
		go func() { _ = c.Send(args.Stdin) }()
	}
	go func() {
		_ = c.Receive(writer(args.Stdout))
		_ = c.Close()
		if args.DataDone != nil {
			close(args.DataDone)
		}
	}()
}

// connectPipes joins the three websockets of a command without a terminal.
func connectPipes(conns map[string]*websocket.Conn, args *InstanceExecArgs) {
	if conn := conns["0"]; conn != nil {
		c := ws.New(conn)
		go func() {
			if args.Stdin != nil {
				_ = c.Send(args.Stdin)
			} else {
				_ = c.EndOfStream()
			}
		}()
		// Answers to the server's pings, until it closes.
		go func() { _ = c.Receive(io.Discard); _ = c.Close() }()
	}
	var wg sync.WaitGroup
	for fd, w := range map[string]io.Writer{"1": writer(args.Stdout), "2": writer(args.Stderr)} {
		conn := conns[fd]
		if conn == nil {
			continue
		}
		c := ws.New(conn)
		wg.Go(func() {
			_ = c.Receive(w)
			_ = c.Close()
		})
	}
	go func() {
		wg.Wait()
		if args.DataDone != nil {
			close(args.DataDone)
		}
	}()
}

func writer(w io.WriteCloser) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
