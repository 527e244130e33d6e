package guestfs

import (
	"errors"
	"io"
	"os"
	"sync"

	"sett/shared/errs"
)

// Client asks a server. It is not safe for concurrent use: a connection carries one
// request at a time. Who gives up closes the connection.
type Client struct {
	conn  io.ReadWriteCloser
	busy  bool // a request is under way, or has left the connection in a state unknown
	takes func(f *os.File, device uint64) bool

	mu   sync.Mutex
	held *handed // the file that was handed over last
	over bool
}

// NewClient speaks on a connection, which becomes the client's.
func NewClient(conn io.ReadWriteCloser) *Client { return &Client{conn: conn, takes: handsOver} }

// Ready tells whether the last request has come to its end, and another one can follow.
func (c *Client) Ready() bool { return !c.busy }

// Close ends the server, in the middle of what it does, and lets go of its files.
func (c *Client) Close() error {
	err := c.conn.Close()
	if s := c.socket(); s != nil {
		s.end()
	}
	c.mu.Lock()
	h := c.held
	c.over = true
	c.mu.Unlock()
	if h != nil {
		h.close()
	}
	return err
}

// socket is the connection where open files can come on it, and else nil.
func (c *Client) socket() *Socket {
	if s, ok := c.conn.(interface{ socket() *Socket }); ok {
		return s.socket()
	}
	return nil
}

// hand lets files be handed over, where they can be.
func (c *Client) hand(q request) request {
	if s := c.socket(); s != nil {
		q.Hand, q.Device = true, s.Device
	}
	return q
}

// take is for the file that has come along with an answer.
func (c *Client) take() (*handed, error) {
	s := c.socket()
	if s == nil {
		return nil, errs.Internal("The file server of the instance has handed over a file that nobody asked for")
	}
	f := s.taken()
	if f == nil {
		return nil, errs.Internal("The file server of the instance has handed over no file")
	}
	// The server lives among what the guest has made: whoever got hold of it must not keep
	// the daemon waiting with a pipe.
	if !c.takes(f, s.Device) {
		_ = f.Close()
		return nil, errs.Internal("The file server of the instance has handed over what is no file of bytes")
	}
	h := &handed{f: f}
	c.mu.Lock()
	c.held = h
	over := c.over
	c.mu.Unlock()
	if over {
		h.close()
	}
	return h, nil
}

func (c *Client) ask(q request) (answer, error) {
	c.busy = true
	if err := send(c.conn, q); err != nil {
		return answer{}, err
	}
	return c.answer()
}

func (c *Client) answer() (answer, error) {
	var a answer
	err := receive(c.conn, &a)
	if err != nil {
		if s := c.socket(); s != nil {
			s.put(nil)
		}
	}
	if errors.Is(err, io.EOF) {
		err = errs.Internal("The file server of the instance has ended without an answer")
	}
	if err != nil {
		return answer{}, err
	}
	c.busy = false
	return a, a.Fault.err()
}

// Opened is something that was looked at. A file has to be read, or passed over with
// Skip, before the next request.
type Opened struct {
	Info
	c *Client
	h *handed // where the file itself has come
}

// Open looks at something as itself: a link at the end of the name is not followed.
func (c *Client) Open(name string) (*Opened, error) {
	a, err := c.ask(c.hand(request{Op: opOpen, Path: name}))
	if err != nil {
		return nil, err
	}
	if a.Info == nil {
		return nil, errs.Internal("The file server of the instance has answered nonsense")
	}
	o := &Opened{Info: *a.Info, c: c}
	if a.Hand {
		o.h, err = c.take()
		return o, err
	}
	c.busy = a.Info.Type == File // it is open
	return o, nil
}

// Skip goes on without the file's content.
func (o *Opened) Skip() error {
	if o.Type != File {
		return nil
	}
	if o.h != nil {
		o.h.close()
		return nil
	}
	err := send(o.c.conn, span{None: true})
	o.c.busy = err != nil
	return err
}

// Copy sends a part of the file to w; length -1 is all from offset on. Less than
// length arrives when the file was made shorter meanwhile.
func (o *Opened) Copy(w io.Writer, offset, length int64) (int64, error) {
	if o.h != nil {
		defer o.h.close()
		p := &part{h: o.h, at: offset, left: length}
		if rf, ok := w.(io.ReaderFrom); ok {
			return rf.ReadFrom(p)
		}
		return p.WriteTo(w)
	}
	if err := send(o.c.conn, span{Offset: offset, Length: length}); err != nil {
		return 0, err
	}
	n, err := receiveData(w, o.c.conn)
	if err != nil {
		return n, err
	}
	_, err = o.c.answer()
	return n, err
}

// Write writes a file from body and tells whether it was made. The owner is set on
// what is made only.
func (c *Client) Write(name string, o Owner, add bool, body io.Reader) (made bool, err error) {
	a, err := c.ask(c.hand(request{Op: opWrite, Path: name, Owner: o, Append: add}))
	if err != nil {
		return false, err
	}
	made, c.busy = a.Made, true
	if a.Hand {
		return made, c.fill(name, body)
	}
	sent, err := sendData(c.conn, body)
	var broken *brokenError
	if err != nil && !errors.As(err, &broken) {
		return made, err // the server must not take this for the end of the file
	}
	a, aerr := c.answer()
	c.busy = aerr != nil || err != nil // the server may have stopped to listen
	switch {
	case aerr != nil:
		return made, aerr
	case err != nil:
		return made, err
	case a.Bytes != sent:
		return made, errs.Internal("Of %q only %d of %d bytes were written", name, a.Bytes, sent)
	}
	return made, nil
}

// fill writes a file that has been handed over, and tells the server when that is done.
func (c *Client) fill(name string, body io.Reader) error {
	h, err := c.take()
	if err != nil {
		return err
	}
	defer h.close()
	end := answer{}
	end.Bytes, err = h.fill(body)
	var disk *writeError
	if errors.As(err, &disk) {
		end.Fault = explain(name, disk.error)
		err = end.Fault.err()
	} else if err != nil {
		end.Fault = &fault{errs.KindInvalid, "there is no more"}
	}
	if serr := send(c.conn, end); serr != nil {
		return errors.Join(err, serr)
	}
	_, aerr := c.answer()
	if err == nil {
		err = aerr
	}
	return err
}

// Mkdir makes a directory; one that is there already will do.
func (c *Client) Mkdir(name string, o Owner) (made bool, err error) {
	a, err := c.ask(request{Op: opMkdir, Path: name, Owner: o})
	return a.Made, err
}

// Symlink makes a link; one that says the same already will do.
func (c *Client) Symlink(name, target string, o Owner) (made bool, err error) {
	a, err := c.ask(request{Op: opSymlink, Path: name, Target: target, Owner: o})
	return a.Made, err
}

// Remove removes a name or an empty directory.
func (c *Client) Remove(name string) error {
	_, err := c.ask(request{Op: opRemove, Path: name})
	return err
}

// SFTP makes the rest of the connection one of SFTP.
func (c *Client) SFTP() (io.ReadWriteCloser, error) {
	_, err := c.ask(request{Op: opSFTP})
	c.busy = true
	return c.conn, err
}
