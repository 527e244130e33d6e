package file

import (
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"sett/lxd/host/guestfs"
)

// link answers with where a link leads, as an absolute path.
func link(w http.ResponseWriter, r *http.Request, name string, o *guestfs.Opened) error {
	to := o.Target
	if !path.IsAbs(to) {
		to = path.Join(path.Dir(name), to)
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(to))
	return nil
}

// content answers with a file, or with the part of it that was asked for.
func content(w http.ResponseWriter, r *http.Request, o *guestfs.Opened) error {
	if o.Size == 0 {
		// Files of /proc and the like have no size and bytes all the same.
		_, err := o.Copy(w, 0, -1)
		return err
	}
	if strings.Contains(r.Header.Get("Range"), ",") {
		r = r.Clone(r.Context())
		r.Header.Del("Range") // a server may answer with all
	}
	http.ServeContent(direct{w}, r, "", o.Modified, &file{o: o})
	return nil
}

// file is what ServeContent needs of a file: its size, by seeking, and a place.
type file struct {
	o  *guestfs.Opened
	at int64
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		f.at = offset
	case io.SeekCurrent:
		f.at += offset
	case io.SeekEnd:
		f.at = f.o.Size + offset
	}
	return f.at, nil
}

// Read is never called: ServeContent copies to a direct.
func (f *file) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

// direct has a file's bytes sent without further buffers in between.
type direct struct{ http.ResponseWriter }

// ReadFrom implements io.ReaderFrom for what io.CopyN makes of a file.
func (d direct) ReadFrom(from io.Reader) (int64, error) {
	if l, ok := from.(*io.LimitedReader); ok {
		if f, ok := l.R.(*file); ok {
			return f.o.Copy(d.ResponseWriter, f.at, l.N)
		}
	}
	return io.Copy(struct{ io.Writer }{d.ResponseWriter}, from)
}
