package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"sett/shared/api"
	"sett/shared/ws"
)

// InstanceConsoleClient works with the consoles of instances.
type InstanceConsoleClient interface {
	ConsoleInstance(name string, console api.InstanceConsolePost, args *InstanceConsoleArgs) (Operation, error)
	ConsoleInstanceDynamic(name string, console api.InstanceConsolePost, args *InstanceConsoleArgs) (Operation, func(io.ReadWriteCloser) error, error)
	GetInstanceConsoleLog(name string) (io.ReadCloser, error)
	DeleteInstanceConsoleLog(name string) error
}

// InstanceConsoleArgs connects a console to the world.
type InstanceConsoleArgs struct {
	Terminal io.ReadWriteCloser // what is read from it is typed, what the console shows is written to it
	// Control gets the websocket for window sizes; it runs in a goroutine of its own.
	Control func(conn *websocket.Conn)
	// ConsoleDisconnect detaches from the console when it is closed or sent to.
	ConsoleDisconnect <-chan bool
}

// ConsoleInstance attaches to the console of an instance. The operation ends when
// the client detaches or the instance stops, and cannot end the instance.
func (r *ProtocolLXD) ConsoleInstance(name string, console api.InstanceConsolePost, args *InstanceConsoleArgs) (Operation, error) {
	if args == nil || args.Terminal == nil {
		return nil, errors.New("A terminal is needed to show a console on")
	}
	op, connect, err := r.ConsoleInstanceDynamic(name, console, args)
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = connect(args.Terminal)
	}()
	return consoleOperation{op, ended}, nil
}

// consoleOperation is over when all that the console showed was written as well.
type consoleOperation struct {
	Operation
	shown <-chan struct{}
}

// Wait waits for the end of the operation and of the output.
func (o consoleOperation) Wait() error { return o.outlast(o.Operation.Wait()) }

// WaitContext is Wait with an end of its own.
func (o consoleOperation) WaitContext(ctx context.Context) error {
	return o.outlast(o.Operation.WaitContext(ctx))
}

func (o consoleOperation) outlast(err error) error {
	select {
	case <-o.shown:
	case <-time.After(5 * time.Second): // the terminal takes nothing any more
	}
	return err
}

// ConsoleInstanceDynamic attaches to the console of an instance and leaves it to the
// caller with what to connect it, once: the result does that and returns at the end.
func (r *ProtocolLXD) ConsoleInstanceDynamic(name string, console api.InstanceConsolePost, args *InstanceConsoleArgs) (Operation, func(io.ReadWriteCloser) error, error) {
	if err := r.need("console"); err != nil {
		return nil, nil, err
	}
	if console.Type == "" {
		console.Type = "console"
	}
	if args == nil {
		args = &InstanceConsoleArgs{}
	}
	op, _, err := r.queryOperation(http.MethodPost, path("instances", name, "console"), console, "")
	if err != nil {
		return nil, nil, err
	}
	secrets, err := execSecrets(op.Get().Metadata)
	if err != nil {
		return nil, nil, err
	}
	control, err := op.GetWebsocket(secrets["control"])
	if err != nil {
		return nil, nil, err
	}
	if args.Control != nil {
		go args.Control(control)
	} else {
		go func() { // answers to the server's pings
			for {
				if _, _, err := control.NextReader(); err != nil {
					return
				}
			}
		}()
	}
	conn, err := op.GetWebsocket(secrets["0"])
	if err != nil {
		_ = control.Close()
		return nil, nil, err
	}
	var once atomic.Bool
	connect := func(term io.ReadWriteCloser) error {
		if once.Swap(true) {
			return errors.New("The console is connected already")
		}
		over := make(chan struct{})
		defer close(over)
		go func() {
			select {
			case <-args.ConsoleDisconnect:
				bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "Detaching from console")
				_ = control.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
				_ = control.Close()
			case <-over:
				_ = control.Close()
			}
		}()
		c := ws.New(conn)
		go func() { _ = c.Send(term) }()
		err := c.Receive(term)
		_ = c.Close()
		return err
	}
	return op, connect, nil
}

// GetInstanceConsoleLog opens what the console showed. The caller closes it.
func (r *ProtocolLXD) GetInstanceConsoleLog(name string) (io.ReadCloser, error) {
	body, _, err := r.stream(path("instances", name, "console"))
	return body, err
}

// DeleteInstanceConsoleLog forgets what the console showed.
func (r *ProtocolLXD) DeleteInstanceConsoleLog(name string) error {
	return r.exec(http.MethodDelete, path("instances", name, "console"), nil, "")
}
