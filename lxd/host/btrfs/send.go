package btrfs

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

const (
	iocSend       = 0x40489426
	iocSubvolInfo = 0x81f8943c
)

// Mark names a subvolume for all times and places.
type Mark [16]byte

// Mark asks for the subvolume's own.
func (d Dir) Mark() (Mark, error) {
	var a struct {
		treeid        uint64
		name          [256]byte
		parent, dirid uint64
		generation    uint64
		flags         uint64
		uuid          Mark
		rest          [192]byte
	}
	err := d.do("ask about subvolume", iocSubvolInfo, unsafe.Pointer(&a))
	return a.uuid, err
}

// Send writes the subvolume, which must be read-only and have none inside, as a stream:
// all of it, or what differs from parent, another such one. It ends soon after ctx.
func (d Dir) Send(ctx context.Context, parent *Dir, w io.Writer) error {
	a := struct {
		fd      int64
		count   uint64
		clones  *uint64
		parent  uint64
		flags   uint64
		version uint32
		unused  [28]byte
	}{}
	if parent != nil {
		id, err := parent.ID()
		if err != nil {
			return err
		}
		a.parent, a.count, a.clones = id, 1, &id
	}
	// The kernel writes into the pipe; when nobody reads any more it stops.
	r, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	a.fd = int64(pw.Fd())
	sent := make(chan error, 1)
	go func() {
		err := undisturbed(func() error { return d.do("send subvolume", iocSend, unsafe.Pointer(&a)) })
		sent <- errors.Join(err, pw.Close())
	}()
	out := &noted{Writer: w}
	err = follow(bufio.NewReaderSize(io.TeeReader(r, out), 256<<10))
	r.Close()
	serr := <-sent
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case out.err != nil:
		return out.err
	case serr != nil && !errors.Is(serr, unix.EPIPE): // which is that nobody read any more
		return serr
	case err != nil:
		return errs.Unavailable("The stream of %s did not come in one piece, as when the daemon is stopped meanwhile; try again: %w", d.f.Name(), err)
	}
	return serr
}

// noted keeps what a writer has failed by.
type noted struct {
	io.Writer
	err error
}

// Write implements io.Writer.
func (n *noted) Write(b []byte) (int, error) {
	w, err := n.Writer.Write(b)
	n.err = err
	return w, err
}

// follow reads a stream to its end, and fails where it is not one, and a whole one.
func follow(in *bufio.Reader) error {
	if err := readHead(in); err != nil {
		return err
	}
	for {
		c, err := readCommand(in)
		if err != nil {
			return err
		}
		if c.cmd == cmdEnd {
			break
		}
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return broken("something comes behind its end")
	}
	return nil
}

// undisturbed runs f on a thread that takes no signals. The kernel begins a send that was
// interrupted from its start, behind what it has written already; and Go's runtime, for
// one, sends signals to its threads. A process that is stopped or frozen is interrupted all
// the same.
func undisturbed(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return err
	}
	return errors.Join(f(), unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil))
}
