package dqlite

import "net"

// batched sends in one piece what go-dqlite writes in several: a greeting, and a
// header and a body for each request. Over a network each piece would be a packet by
// itself that both sides are woken for, and on the way to our own engine a second
// round of its loop. Each request is followed by a read of its answer, so what was
// written is sent then.
type batched struct {
	net.Conn
	out []byte
}

// mostBatched is up to where it costs less to copy than to send twice.
const mostBatched = 32 << 10

// Write implements net.Conn.
func (c *batched) Write(b []byte) (int, error) {
	if len(c.out)+len(b) <= mostBatched {
		c.out = append(c.out, b...)
		return len(b), nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Read implements net.Conn.
func (c *batched) Read(b []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *batched) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.out)
	c.out = c.out[:0]
	return err
}
