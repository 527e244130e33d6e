package exec

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sett/lxd/task"
	"sett/shared/log"
)

// longest is how much of each stream of a command is recorded. Its guest decides what
// it writes, and the host's disk is not the guest's.
const longest = 64 << 20

// cutOff is what a recording ends with when there was more.
const cutOff = "\n[the rest was not recorded]\n"

// record keeps what a command writes, up to a limit. Once the command has ended it takes
// what is in the pipe and waits for no more.
func record(f io.Writer, r *os.File, limit int64) error {
	_, err := io.CopyN(f, r, limit)
	switch {
	case err == nil:
		if n, _ := io.Copy(io.Discard, r); n > 0 { // the command must not block
			_, err = io.WriteString(f, cutOff)
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		_, err = f.Write(held(r))
	case errors.Is(err, io.EOF):
		err = nil
	}
	return err
}

// recording is one stream of a command on its way into a file.
type recording struct {
	file, theirs, ours *os.File
	done               chan error
}

func newRecording(root *os.Root, name string) (*recording, error) {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	r := &recording{file: f}
	if r.ours, r.theirs, err = bigPipe(pipeSize); err != nil {
		_ = f.Close()
		return nil, err
	}
	return r, nil
}

// begin copies, once the command has the other side.
func (r *recording) begin(limit int64) {
	closeFile(r.theirs)
	r.theirs, r.done = nil, make(chan error, 1)
	go func() { r.done <- record(r.file, r.ours, limit) }()
}

// end waits for what the command has written.
func (r *recording) end() error {
	_ = r.ours.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	err := <-r.done
	r.done = nil
	return err
}

func (r *recording) close() {
	closeFile(r.ours) // ends the copy
	if r.done != nil {
		<-r.done
	}
	closeFile(r.theirs)
	closeFile(r.file)
}

const (
	// kept is how long a recording can be fetched.
	kept = 48 * time.Hour
	// together is how much all recordings of an instance may take. What they hold is the
	// guest's choice, and whoever looks after it by recorded commands may run one a minute.
	together = 1 << 30
)

func isRecording(name string) bool {
	return strings.HasPrefix(name, "exec_") && (strings.HasSuffix(name, ".stdout") || strings.HasSuffix(name, ".stderr"))
}

// makeRoom removes the oldest recordings of a folder, beyond so many bytes.
func makeRoom(root *os.Root, limit int64) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	ents, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	var all []os.FileInfo
	for _, e := range ents {
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() && isRecording(fi.Name()) {
			all = append(all, fi)
		}
	}
	slices.SortFunc(all, func(a, b os.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, fi := range all {
		if limit -= fi.Size(); limit >= 0 {
			continue
		}
		if err := root.Remove(fi.Name()); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// Jobs are what is to be done from time to time.
func (h *Handler) Jobs() []task.Job {
	return []task.Job{{Name: "expire recorded output", Every: time.Hour, Run: func(ctx context.Context) error {
		return expire(ctx, h.instances.LogRoot(), time.Now().Add(-kept))
	}}}
}

// expire removes the recordings below a folder of log folders that were last written
// before a time.
func expire(ctx context.Context, dir string, before time.Time) error {
	all, err := filepath.Glob(filepath.Join(dir, "*", "exec_*.std*"))
	if err != nil {
		return err
	}
	for _, p := range all {
		if !isRecording(filepath.Base(p)) {
			continue
		}
		if fi, err := os.Lstat(p); err != nil || !fi.Mode().IsRegular() || fi.ModTime().After(before) {
			continue
		}
		if err := os.Remove(p); err != nil && !os.IsNotExist(err) {
			log.From(ctx).Warn("Could not remove an old recording", "file", p, "err", err)
		}
	}
	return nil
}
