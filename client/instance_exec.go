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

	conns := map[string]*websocket.Conn{}
	giveUp := func(err error) (Operation, error) {
		for _, c := range conns {
			_ = c.Close()
		}
		return nil, err
	}
	// The server starts the command when all have connected: control first, then
	// the streams in their order.
	order := []string{"control", "0", "1", "2"}
	if exec.Interactive {
		order = []string{"control", "0"}
	}
	for _, fd := range order {
		secret, ok := secrets[fd]
		if !ok || fd == "control" && args.Control == nil {
			continue
		}
		c, err := op.GetWebsocket(secret)
		if err != nil {
			return giveUp(err)
		}
		conns[fd] = c
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
