package guestfs

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Serve answers requests until the connection ends. half ends what comes in on the
// connection, so that who sends data into a full disk hears of it at once.
func Serve(conn io.ReadWriteCloser, r *Root, half func()) error {
	defer func() { _ = conn.Close() }()
	for {
		var q request
		if err := receive(conn, &q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if q.Op == opSFTP {
			if err := send(conn, answer{}); err != nil {
				return err
			}
			return serveSFTP(conn, r)
		}
		if err := r.serve(conn, q, half); err != nil {
			return err
		}
	}
}

func (r *Root) serve(conn io.ReadWriter, q request, half func()) error {
	a := answer{}
	var err error
	switch q.Op {
	case opOpen:
		return r.serveOpen(conn, q)
	case opWrite:
		return r.serveWrite(conn, q, half)
	case opMkdir:
		a.Made, err = r.mkdir(q.Path, q.Owner)
	case opSymlink:
		a.Made, err = r.symlink(q.Path, q.Target, q.Owner)
	case opRemove:
		err = r.remove(q.Path)
	default:
		err = unix.ENOSYS
	}
	a.Fault = explain(q.Path, err)
	return send(conn, a)
}

// info describes what was found, without what a look inside would need.
func (n node) info() *Info {
	i := &Info{Type: Other, UID: int(n.st.Uid), GID: int(n.st.Gid), Mode: n.st.Mode & 0o7777, Size: n.st.Size,
		Modified: time.Unix(n.st.Mtim.Sec, n.st.Mtim.Nsec).UTC()}
	switch n.kind() {
	case unix.S_IFREG:
		i.Type = File
	case unix.S_IFDIR:
		i.Type = Directory
	case unix.S_IFLNK:
		i.Type = Symlink
	}
	return i
}

// serveOpen describes something; of a file it sends the part that is then asked for.
func (r *Root) serveOpen(conn io.ReadWriter, q request) error {
	info, f, err := r.open(q.Path)
	if err != nil {
		return send(conn, answer{Fault: explain(q.Path, err)})
	}
	if f == nil {
		return send(conn, answer{Info: info})
	}
	defer func() { _ = f.Close() }()
	if s, ok := conn.(*Socket); ok && q.Hand && r.hands(f, q.Device) {
		return hand(s, answer{Info: info}, f)
	}
	if err := send(conn, answer{Info: info}); err != nil {
		return err
	}
	var s span
	if err := receive(conn, &s); err != nil || s.None {
		return err
	}
	var from io.Reader = f
	if s.Offset > 0 {
		if _, err := f.Seek(s.Offset, io.SeekStart); err != nil {
			return send(conn, answer{Fault: explain(q.Path, err)})
		}
	}
	if s.Length >= 0 {
		from = io.LimitReader(f, s.Length)
	}
	n, err := sendData(conn, from)
	var broken *brokenError
	if errors.As(err, &broken) {
		return err
	}
	if err != nil { // the data has no end: an empty piece is one, and the fault follows
		if _, werr := conn.Write([]byte{0, 0, 0, 0}); werr != nil {
			return werr
		}
	}
	return send(conn, answer{Bytes: n, Fault: explain(q.Path, err)})
}

// open looks at something as itself, links included.
func (r *Root) open(name string) (*Info, *os.File, error) {
	n, err := r.look(name, false)
	if err != nil {
		return nil, nil, err
	}
	defer n.close()
	i := n.info()
	switch i.Type {
	case Directory:
		i.Names, err = n.list()
		return i, nil, err
	case Symlink:
		i.Target, err = n.readlink()
		return i, nil, err
	case File:
		f, err := n.open(unix.O_RDONLY)
		return i, f, err
	}
	return nil, nil, errIrregular
}

func (r *Root) serveWrite(conn io.ReadWriter, q request, half func()) error {
	f, made, err := r.write(q.Path, q.Owner, q.Append)
	if err != nil {
		return send(conn, answer{Fault: explain(q.Path, err)})
	}
	defer func() { _ = f.Close() }()
	r.written(f)
	if s, ok := conn.(*Socket); ok && q.Hand && r.hands(f, q.Device) && (made || !privileged(f)) {
		if err := hand(s, answer{Made: made}, f); err != nil {
			return err
		}
		var end answer
		if err := receive(conn, &end); err != nil {
			return err
		}
		if end.Fault == nil {
			err = q.Owner.again(f, made)
		}
		return send(conn, answer{Made: made, Bytes: end.Bytes, Fault: explain(q.Path, err)})
	}
	if err := send(conn, answer{Made: made}); err != nil {
		return err
	}
	n, err := receiveData(f, conn)
	var broken *brokenError
	if errors.As(err, &broken) {
		return err
	}
	if err == nil {
		err = q.Owner.again(f, made)
	}
	if err == nil {
		// What the disk has no room for may show only now.
		if err = f.Close(); errors.Is(err, os.ErrClosed) {
			err = nil
		}
	} else {
		half()
	}
	return send(conn, answer{Made: made, Bytes: n, Fault: explain(q.Path, err)})
}

// again gives a new file the set-id bits that the kernel took away with the first byte.
func (o Owner) again(f *os.File, made bool) error {
	if !made || o.Mode <= 0 || o.Mode&0o6000 == 0 {
		return nil
	}
	return unix.Fchmod(int(f.Fd()), uint32(o.Mode)&0o7777)
}

// privileged reports whether a file gives its user or group to who runs it. The kernel
// ends that when the guest writes to it, and not when the daemon does.
func privileged(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0
}
