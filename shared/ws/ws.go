// Package ws carries byte streams over websockets the way LXD's exec, console
// and migration do: data in binary frames, and an empty text frame where one
// direction ends while the other goes on.
package ws

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// frame is the size of one read, and so of one message.
const frame = 32 << 10

// Conn sends and receives one stream over a websocket. One goroutine may send
// while another receives.
type Conn struct {
	*websocket.Conn
	mu sync.Mutex // gorilla allows one writer at a time
}

// New wraps a websocket.
func New(c *websocket.Conn) *Conn { return &Conn{Conn: c} }

// Send copies r into the websocket until r ends, then marks the end of the
// stream. A failing r is reported after the mark, so that the peer never hangs.
func (c *Conn) Send(r io.Reader) error {
	buf := make([]byte, frame)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if werr := c.write(websocket.BinaryMessage, buf[:n]); werr != nil {
				return werr
			}
		}
		if err != nil {
			eerr := c.EndOfStream()
			if errors.Is(err, io.EOF) {
				return eerr
			}
			return err
		}
	}
}

// EndOfStream tells the peer that nothing more will be sent.
func (c *Conn) EndOfStream() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return End(c.Conn)
}

// End marks the end of a stream on a websocket that nobody else writes to.
func End(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, nil) }

func (c *Conn) write(kind int, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.WriteMessage(kind, b)
}

// Receive copies the websocket into w until the peer marks the end of its stream
// or closes. A peer that vanishes without a word is io.ErrUnexpectedEOF.
func (c *Conn) Receive(w io.Writer) error {
	err := Pull(c.Conn, w)
	var failed *WriteError
	switch {
	case errors.As(err, &failed):
		return failed.Err
	case websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived):
		return nil
	case websocket.IsUnexpectedCloseError(err), errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// WriteError is the error of the writer that a stream was copied to; the websocket is
// still good.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return e.Err.Error() }

// Unwrap gives the writer's error.
func (e *WriteError) Unwrap() error { return e.Err }

// most is how much Pull collects before it writes.
const most = 128 << 10

// Waiting is what a connection can do for those who collect what comes in: before each
// read that may have to wait for the other side it calls a function.
type Waiting interface{ BeforeRead(f func()) }

// Pull copies one stream from a websocket into w. It returns nil at the stream's end
// mark, a *WriteError when w fails, and else why the websocket ended.
//
// Clients of LXD cut what they send into frames of 4 KiB. Where the connection tells when
// there is no more of them for now, they are written together.
func Pull(c *websocket.Conn, w io.Writer) error {
	to := &collector{w: w, buf: make([]byte, 0, 4<<10)}
	if conn, ok := c.NetConn().(Waiting); ok {
		to.wait = true
		conn.BeforeRead(func() { _ = to.flush() }) // the next write says what went wrong
		defer conn.BeforeRead(nil)
	}
	for {
		kind, r, err := c.NextReader()
		end := err == nil && kind == websocket.TextMessage
		if err == nil && !end {
			if err = to.take(r); err == nil && to.wait && to.err == nil {
				continue
			}
		}
		switch ferr := to.flush(); {
		case ferr != nil:
			return &WriteError{ferr}
		case err != nil:
			return err
		case end:
			return nil
		}
	}
}

// collector gathers what goes to w. Its buffer grows when it is filled at once.
type collector struct {
	w    io.Writer
	buf  []byte
	err  error // of w
	wait bool  // somebody calls flush when there is no more for now
}

func (c *collector) flush() error {
	if len(c.buf) > 0 && c.err == nil {
		_, c.err = c.w.Write(c.buf)
	}
	c.buf = c.buf[:0]
	return c.err
}

// take takes in one message.
func (c *collector) take(r io.Reader) error {
	for {
		if len(c.buf) == cap(c.buf) {
			if c.flush() != nil {
				return c.err
			}
			if cap(c.buf) < most {
				c.buf = make([]byte, 0, 2*cap(c.buf))
			}
		}
		at := len(c.buf)
		n, err := r.Read(c.buf[at:cap(c.buf)])
		if len(c.buf) < at { // the read has called flush
			copy(c.buf[:n], c.buf[at:at+n])
			at = 0
		}
		c.buf = c.buf[:at+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// goodbye is how long Close waits for a peer that reads nothing any more.
const goodbye = time.Second

// Close says goodbye and closes the connection. A Send that goes on ends by it.
func (c *Conn) Close() error {
	_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(goodbye))
	return c.Conn.Close()
}
