package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sett/shared/archive"
	"sett/shared/errs"
)

// Algorithm is how an archive is compressed: a program that is known, with arguments
// that only tell how hard it shall try. The zero value does not compress.
type Algorithm struct {
	program string
	args    []string
}

// programs are those that compress a stream, and what they make.
func programs() map[string]archive.Format {
	return map[string]archive.Format{
		"gzip": archive.Gzip, "pigz": archive.Gzip, "bzip2": archive.Bzip2, "pbzip2": archive.Bzip2, "lbzip2": archive.Bzip2,
		"xz": archive.XZ, "zstd": archive.Zstd, "pzstd": archive.Zstd, "lz4": archive.LZ4,
	}
}

// harmless matches arguments that name no file: levels, threads, windows.
const harmless = `^(-[0-9]{1,2}|-[eT][0-9]{0,3}|-p[0-9]{1,3}|--(best|fast|extreme|ultra|rsyncable|adapt|check|no-check|fast=[0-9]{1,2}|` +
	`long|long=[0-9]{1,2}|threads=[0-9]{1,3}|check=[a-z0-9]{1,8}|block-size=[0-9]{1,9}[KMG]?(iB)?|memlimit-compress=[0-9]{1,12}[KMG]?(iB)?%?))$`

// ParseAlgorithm reads the value of a compression_algorithm: "none", or a program and
// its arguments, such as "gzip" or "zstd -19 -T0". The program must be installed.
func ParseAlgorithm(s string) (Algorithm, error) {
	words := strings.Fields(s)
	switch {
	case len(words) == 0:
		return Algorithm{}, errs.Invalid("The compression algorithm is empty; use none for no compression")
	case words[0] == "none" && len(words) == 1:
		return Algorithm{}, nil
	case words[0] == "squashfs":
		return Algorithm{}, errs.NotImplemented("Compressing with squashfs is not implemented")
	}
	if _, ok := programs()[words[0]]; !ok {
		return Algorithm{}, errs.Invalid("Compression algorithm %q is not known; use none, bzip2, gzip, lz4, xz or zstd", words[0])
	}
	ok := regexp.MustCompile(harmless)
	if n := slices.IndexFunc(words[1:], func(a string) bool { return !ok.MatchString(a) }); n >= 0 {
		return Algorithm{}, errs.Invalid("Argument %q of compression algorithm %q is not allowed; a level such as -9 is", words[1+n], words[0])
	}
	a := Algorithm{program: words[0], args: words[1:]}
	if _, err := exec.LookPath(a.program); err != nil {
		return Algorithm{}, errs.Invalid("Compression algorithm %q is not installed on this server", a.program)
	}
	return a, nil
}

// Format is what comes out.
func (a Algorithm) Format() archive.Format {
	if f, ok := programs()[a.program]; ok {
		return f
	}
	return archive.Tar
}

// Compress starts the algorithm's program and returns what feeds it; its output goes
// to dst. Close waits until all has come out, and tells what went wrong; whatever
// Write said, the cause is with Close. It must be called.
//
// What is compressed comes from guests. So the program runs as nobody, without a
// network.
func Compress(ctx context.Context, a Algorithm, dst io.Writer) (io.WriteCloser, error) {
	if a.program == "" {
		return plain{dst}, nil
	}
	z := &compressor{name: a.program, ctx: ctx, dst: dst}
	z.cmd = exec.CommandContext(ctx, a.program, append(slices.Clone(a.args), "-c")...)
	z.cmd.Stdout, z.cmd.Stderr = (*output)(z), &z.said
	z.cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	z.cmd.Dir = "/"
	z.cmd.WaitDelay = 5 * time.Second
	z.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	if os.Geteuid() == 0 {
		const nobody = 65534
		z.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		z.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWIPC
	}
	var err error
	if z.in, err = z.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := z.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", a.program, err)
	}
	return z, nil
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

type compressor struct {
	name string
	ctx  context.Context
	cmd  *exec.Cmd
	in   io.WriteCloser
	dst  io.Writer
	said remark

	mu  sync.Mutex
	err error // of writing to dst
}

// remark keeps the beginning of what a program says.
type remark struct{ bytes.Buffer }

func (r *remark) Write(p []byte) (int, error) {
	_, _ = r.Buffer.Write(p[:min(len(p), max(0, 1024-r.Len()))])
	return len(p), nil
}

// output is the side that the program writes to.
type output compressor

func (o *output) Write(p []byte) (int, error) {
	n, err := o.dst.Write(p)
	if err != nil {
		o.mu.Lock()
		o.err = err
		o.mu.Unlock()
	}
	return n, err
}

func (z *compressor) Write(p []byte) (int, error) { return z.in.Write(p) }

func (z *compressor) Close() error {
	closed := z.in.Close()
	err := z.cmd.Wait()
	z.mu.Lock()
	defer z.mu.Unlock()
	switch {
	case z.ctx.Err() != nil:
		return context.Cause(z.ctx)
	case z.err != nil:
		return z.err
	case err != nil && z.said.Len() > 0:
		return errors.New(strings.Join(strings.Fields(z.said.String()), " "))
	case err != nil:
		return fmt.Errorf("%s: %w", z.name, err)
	}
	return closed
}
