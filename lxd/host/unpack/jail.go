package unpack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/host/fsmount"
	"sett/lxd/host/unpack/child"
	"sett/shared/archive"
	"sett/shared/errs"
)

// Jail runs the programs. The zero value starts the running program again.
type Jail struct {
	// Command is how the child is started; "unpack" and its job are added. Empty:
	// /proc/self/exe.
	Command []string
}

// Image is an image on disk: one archive with metadata and root file system, or two.
type Image struct {
	Meta   string // the unified archive, or that of the metadata
	Rootfs string // the archive of the root file system; empty if unified
}

// Image unpacks an image into the empty folder dir, so that it holds metadata.yaml,
// templates and rootfs. When it fails, dir holds part of it.
func (j Jail) Image(ctx context.Context, img Image, dir string) error {
	if err := j.File(ctx, img.Meta, dir); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	fi, err := root.Lstat("rootfs")
	if img.Rootfs == "" {
		if err != nil || !fi.IsDir() {
			return errs.Invalid("The image has no rootfs folder")
		}
		return nil
	}
	if err == nil {
		return errs.Invalid("The image's metadata has a rootfs of its own, beside that of the second file")
	}
	if err := root.Mkdir("rootfs", 0o755); err != nil {
		return err
	}
	to, err := root.OpenFile("rootfs", unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	return j.work(ctx, img.Rootfs, child.Job{}, to)
}

// Below unpacks folders of a tarball, each into a folder of its own: into has the one by
// the other. What else is in there is passed over. The tarball is read once.
func (j Jail) Below(ctx context.Context, path string, into map[string]string) error {
	what := child.Job{Below: slices.Sorted(maps.Keys(into))}
	var to []*os.File
	for _, folder := range what.Below {
		dir, err := openFolder(into[folder])
		if err != nil {
			return err
		}
		defer dir.Close()
		to = append(to, dir)
	}
	return j.work(ctx, path, what, to...)
}

// Stream unpacks a plain tarball, as it comes, into the folder dir. What is wrong with the
// reader counts before what the program makes of it.
func (j Jail) Stream(ctx context.Context, r io.Reader, dir string) error {
	to, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	came := make(chan error, 1)
	go func() {
		_, err := io.Copy(in, r)
		came <- errors.Join(err, in.Close())
	}()
	err = j.run(ctx, child.Job{Format: string(archive.Tar)}, out, to)
	_ = out.Close() // who still writes learns that nobody reads any more
	read := <-came
	if err == nil && errors.Is(read, unix.EPIPE) { // there is padding behind the end
		_, read = io.Copy(io.Discard, r)
	}
	if read != nil && !errors.Is(read, unix.EPIPE) {
		return read
	}
	return explain(err, to, "The content of the instance")
}

// File unpacks one archive into the folder dir.
func (j Jail) File(ctx context.Context, path, dir string) error { return j.Only(ctx, path, dir) }

// Only unpacks some files of a squashfs into the folder dir; without names, all of an
// archive of any kind.
func (j Jail) Only(ctx context.Context, path, dir string, names ...string) error {
	to, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	return j.work(ctx, path, child.Job{Only: names}, to)
}

func openFolder(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

func (j Jail) work(ctx context.Context, path string, what child.Job, to ...*os.File) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	format, err := archive.DetectFile(from)
	if err != nil {
		return err
	}
	files := to
	if format == archive.SquashFS {
		if what.Below != nil {
			return errs.NotImplemented("Backups in squashfs are not implemented; make them a tarball")
		}
		files = append(files, from)
	}
	what.Format = string(format)
	name := "The image"
	if what.Below != nil {
		name = "The backup"
	}
	return explain(j.run(ctx, what, from, files...), to[0], name)
}

// explain says of what it is that a program did not succeed with it.
func explain(err error, to *os.File, what string) error {
	var f *failed
	switch {
	case errors.Is(err, unix.EDQUOT) && fsmount.IsFull(to):
		return unix.ENOSPC
	case !errors.As(err, &f):
		return err
	}
	return errs.Invalid("%s cannot be unpacked: %w", what, err)
}

// failed is what a program said when it did not succeed.
type failed struct{ text string }

func (f *failed) Error() string { return f.text }

// clone makes a mount of what f is, to be put into another mount namespace.
func clone(f *os.File) (*os.File, error) {
	fd, err := unix.OpenTree(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("clone the mount of %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// run starts the child and waits for it. Mounts of files become its descriptors from
// 3 on, the targets first.
func (j Jail) run(ctx context.Context, what child.Job, stdin *os.File, files ...*os.File) error {
	b, err := json.Marshal(what)
	if err != nil {
		return err
	}
	argv := j.Command
	if len(argv) == 0 {
		argv = []string{"/proc/self/exe"}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := exec.CommandContext(ctx, argv[0], slices.Concat(argv[1:], []string{child.Verb, string(b)}, what.Below)...)
	said := &tail{max: 4096, full: cancel}
	c.Stdin, c.Stderr = stdin, said
	for _, f := range files {
		m, err := clone(f)
		if err != nil {
			return err
		}
		defer m.Close()
		c.ExtraFiles = append(c.ExtraFiles, m)
	}
	c.Dir = "/"
	c.WaitDelay = 5 * time.Second
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Setsid:     true,
		// A killed daemon takes the jail along.
		Pdeathsig: unix.SIGKILL,
	}
	if err := c.Start(); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("start the jail (root is needed): %w", err)
		}
		return fmt.Errorf("start the jail: %w", err)
	}
	done := make(chan struct{})
	go watch(ctx, cancel, files[0], done)
	err = c.Wait()
	cause := context.Cause(ctx)
	cancel(nil)
	<-done
	switch {
	case err == nil:
		return nil
	case cause != nil:
		return cause
	}
	text := said.String()
	if text == "" {
		text = err.Error()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == child.ExitJail {
		return errors.New(text)
	}
	return &failed{text}
}

// watch ends the work before the file system is full to the brim.
func watch(ctx context.Context, stop context.CancelCauseFunc, dir *os.File, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if fsmount.IsFull(dir) {
			stop(unix.ENOSPC)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tail keeps the last bytes that are written to it, and tells when a program says that
// there is no room: tar would go on to the end of the archive, with one complaint for
// each file.
type tail struct {
	max  int
	buf  bytes.Buffer
	full func(error)
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf.Write(p)
	if extra := t.buf.Len() - t.max; extra > 0 {
		t.buf.Next(extra)
	}
	said := func(words string) bool { return bytes.Contains(t.buf.Bytes(), []byte(words)) }
	switch {
	case said("No space left on device"):
		t.full(unix.ENOSPC)
	case said("Disk quota exceeded"), said("Wrote only"): // tar's words for a short write
		t.full(unix.EDQUOT)
	}
	return len(p), nil
}

// String gives what was said in one line, the beginning of which names the cause.
func (t *tail) String() string {
	var lines []string
	for l := range strings.Lines(t.buf.String()) {
		l = strings.ToValidUTF8(strings.TrimSpace(l), "?")
		if l != "" && !strings.Contains(l, "Exiting with failure status") {
			lines = append(lines, l)
		}
	}
	if n := len(lines); n > 4 {
		lines = lines[n-4:]
	}
	return strings.Join(lines, "; ")
}
