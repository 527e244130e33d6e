package instance

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"sett/lxd/host/pack"
	"sett/lxd/instance/backup"
	"sett/shared/archive"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// packStreams writes what is in an archive in the format of the pool's driver. A stream
// is written to disk first: the archive has to tell its length before it comes.
func (s *Service) packStreams(ctx context.Context, src *source, o NewBackup, w *pack.Writer) error {
	var u undo.Stack
	u.OnError = func(err error) {
		log.From(ctx).Warn("Could not clean up after a backup", "instance", src.Name, "err", err)
	}
	defer u.Run()
	var header backup.Header
	type stream struct {
		name string
		file *spoolFile
	}
	var all []stream
	var sum int64
	send := func(snapshot, name, dir, parent string) error {
		f, err := s.spool("export", &u)
		if err != nil {
			return err
		}
		mark, err := s.Storage.Send(ctx, src.volume.Pool, dir, parent, metered{f, &sum, o.Progress})
		if err != nil {
			return err
		}
		all = append(all, stream{backup.Stream(name), f})
		header.Subvolumes = append(header.Subvolumes, backup.Subvolume{Path: "/", Snapshot: snapshot, ReadOnly: snapshot != "", UUID: mark})
		return nil
	}
	parent := ""
	for _, sn := range src.snapshots {
		dir, err := s.Storage.MountSnapshot(ctx, src.volume, sn.Name)
		if err != nil {
			return err
		}
		u.Push(func() error {
			ctx, cancel := s.cleanup()
			defer cancel()
			return s.Storage.UnmountSnapshot(ctx, src.volume, sn.Name)
		})
		if err := send(sn.Name, backup.Snapshot(sn.Name), dir, parent); err != nil {
			return fmt.Errorf("snapshot %q: %w", sn.Name, err)
		}
		parent = dir
	}
	if err := send("", backup.Container, src.dir, parent); err != nil {
		return err
	}
	text, err := backup.Marshal(header)
	if err != nil {
		return err
	}
	if err := w.File(backup.HeaderName, 0o644, text); err != nil {
		return err
	}
	for _, st := range all {
		size, err := st.file.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if _, err := st.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: st.name, Mode: 0o600, Size: size, ModTime: time.Now(), Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(w, until{ctx, st.file.File}); err != nil {
			return err
		}
	}
	return nil
}

// metered tells how much has been written.
type metered struct {
	io.Writer
	sum  *int64
	tell func(int64)
}

func (c metered) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	*c.sum += int64(n)
	if c.tell != nil {
		c.tell(*c.sum)
	}
	return n, err
}

// until ends with its context.
type until struct {
	ctx context.Context
	io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}

// unpackStreams makes the volume and its snapshots of streams of the driver.
func (s *Service) unpackStreams(ctx context.Context, p *ImportPlan, u *undo.Stack) error {
	f, err := os.Open(p.file.Name())
	if err != nil {
		return err
	}
	defer f.Close()
	format, err := archive.DetectFile(f)
	if err != nil {
		return err
	}
	r, err := archive.NewReader(ctx, format, f)
	if err != nil {
		return err
	}
	defer r.Close()
	open := func(_ context.Context, snapshot string) (io.ReadCloser, error) {
		folder := backup.Container
		if snapshot != "" {
			folder = backup.Snapshot(snapshot)
		}
		return io.NopCloser(r), member(r, backup.Stream(folder))
	}
	// What the archive says of the configuration stays in the snapshots, on which the next
	// stream builds; nobody reads it there. That of the volume is written anew.
	err = s.Storage.Receive(ctx, p.volume, Bringing{Size: p.size, Snapshots: p.brought}, open, func(_ context.Context, dir string) error { return checkRoot(dir, backup.Container) })
	if err != nil {
		return tooLarge(err)
	}
	s.undoVolume(p.volume, u)
	return nil
}

// member goes on to a file of an archive. The streams are there in the order in which they
// build on each other, so that the archive is read once.
func member(r *archive.Reader, name string) error {
	for {
		e, err := r.Next()
		if err == io.EOF {
			return errs.Invalid("The backup has no %s, or not behind what that builds on", name)
		}
		if err != nil {
			return err
		}
		if e.Name == name && !e.Dir && !e.Link {
			return nil
		}
	}
}
