// Package ws carries byte streams over websockets the way LXD's exec, console
// and migration do: data in binary frames, and an empty text frame where one
// direction ends while the other goes on.
package ws

import (
	"errors"
	"io"
	"sync"

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
	err := Pull(c.Conn, w, make([]byte, frame))
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

// Pull copies one stream from a websocket into w through buf. It returns nil at the
// stream's end mark, a *WriteError when w fails, and else why the websocket ended.
func Pull(c *websocket.Conn, w io.Writer, buf []byte) error {
	to := writer{w: w}
	for {
		kind, r, err := c.NextReader()
		if err != nil {
			return err
		}
		if kind == websocket.TextMessage {
			return nil
		}
		if _, err := io.CopyBuffer(&to, r, buf); err != nil {
			if to.err != nil {
				return &WriteError{to.err}
			}
			return err
		}
	}
}

// writer remembers that it was the one who failed. It has no ReadFrom, which would
// bring a buffer of its own.
type writer struct {
	w   io.Writer
	err error
}

func (w *writer) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	w.err = err
	return n, err
}

// Close says goodbye and closes the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	c.mu.Unlock()
	return c.Conn.Close()
}
