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
func (c *Conn) EndOfStream() error { return c.write(websocket.TextMessage, nil) }

func (c *Conn) write(kind int, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.WriteMessage(kind, b)
}

// Receive copies the websocket into w until the peer marks the end of its stream
// or closes. A peer that vanishes without a word is io.ErrUnexpectedEOF.
func (c *Conn) Receive(w io.Writer) error {
	buf := make([]byte, frame)
	for {
		kind, r, err := c.NextReader()
		if err != nil {
			if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
				return nil
			}
			if websocket.IsUnexpectedCloseError(err) || errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		if kind == websocket.TextMessage {
			return nil
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{w}, r, buf); err != nil {
			return err
		}
	}
}

// Close says goodbye and closes the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	c.mu.Unlock()
	return c.Conn.Close()
}
