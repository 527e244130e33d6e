package exec

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"

	"sett/shared/ws"
)

// chunk is the size of a frame. Larger ones gain nothing once the pipe is as big.
const chunk = 128 << 10

// Sizes of the pipes of a command. The usual 64 KiB make fast commands and fast clients
// take turns. What a command reads is best still in the processor's cache when it does.
const pipeSize, inputSize = 1 << 20, 256 << 10

// bigPipe makes a pipe that holds so much.
func bigPipe(size int) (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	if rc, err := w.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, size) })
	}
	return r, w, nil
}

func closeFile(f *os.File) {
	if f != nil {
		_ = f.Close()
	}
}

// fromClient copies what a websocket sends into w until the stream ends. lost tells
// whether the client vanished rather than said that it is done.
func fromClient(c *websocket.Conn, w io.Writer, end func(lost bool)) {
	err := ws.Pull(c, w)
	var failed *ws.WriteError
	if errors.As(err, &failed) {
		end(false) // the command does not read any more
		drain(c)
		return
	}
	end(err != nil)
}

// drain reads on, so that the closing of the websocket is noticed and its sender
// does not block.
func drain(c *websocket.Conn) {
	for {
		if _, _, err := c.NextReader(); err != nil {
			return
		}
	}
}

// toClient copies a terminal to a websocket until it ends. progress grows before and
// after each write: while it is odd the client is what we wait for.
func toClient(c *websocket.Conn, r io.Reader, progress *atomic.Int64, g *gate) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			progress.Add(1)
			g.wait()
			werr := c.WriteMessage(websocket.BinaryMessage, buf[:n])
			progress.Add(1)
			if werr != nil {
				return
			}
		}
		if err != nil {
			endStream(c)
			return
		}
	}
}

// gate holds output back while a client asks for that. Browsers cannot make a
// websocket wait, so what they have no time to show would pile up in their memory.
type gate struct {
	mu     sync.Mutex
	held   chan struct{} // closed when the gate opens; nil while it is open
	broken bool          // open for good
}

// hold closes or opens the gate.
func (g *gate) hold(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case on && g.held == nil && !g.broken:
		g.held = make(chan struct{})
	case !on && g.held != nil:
		close(g.held)
		g.held = nil
	}
}

// open ends the holding back: the client is gone.
func (g *gate) open() {
	g.mu.Lock()
	g.broken = true
	g.mu.Unlock()
	g.hold(false)
}

// wait returns when the gate is open.
func (g *gate) wait() {
	g.mu.Lock()
	held := g.held
	g.mu.Unlock()
	if held != nil {
		<-held
	}
}

// pump copies a pipe to a websocket until its end. Who knows that the command has ended
// gives the pipe a deadline; then it takes what is in there and waits for no more.
func pump(c *websocket.Conn, f *os.File) {
	defer endStream(c)
	buf := make([]byte, chunk)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if werr := c.WriteMessage(websocket.BinaryMessage, buf[:n]); werr != nil {
				_, _ = io.Copy(io.Discard, f) // the command must not block on a lost client
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			leftover(c, f)
			return
		default:
			return
		}
	}
}

// leftover sends what a pipe holds at this moment, and no more: what the command left
// running may write for ever.
func leftover(c *websocket.Conn, f *os.File) {
	for b := held(f); len(b) > 0; {
		n := min(len(b), chunk)
		if c.WriteMessage(websocket.BinaryMessage, b[:n]) != nil {
			return
		}
		b = b[n:]
	}
}

func endStream(c *websocket.Conn) {
	_ = c.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_ = ws.End(c)
}

// held is what a pipe holds at this moment. A deadline that has passed keeps os.File
// from reading at all, so this asks the kernel.
func held(f *os.File) []byte {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	out := make([]byte, pipeSize)
	n := 0
	for n < len(out) {
		got, rerr := 0, error(nil)
		if err := rc.Control(func(fd uintptr) { got, rerr = unix.Read(int(fd), out[n:]) }); err != nil {
			break
		}
		if rerr == unix.EINTR {
			continue
		}
		if rerr != nil || got <= 0 {
			break
		}
		n += got
	}
	return out[:n]
}
