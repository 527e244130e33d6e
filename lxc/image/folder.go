package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sett/shared/i18n"
)

// folder is an image that lies unpacked in a folder, as the tarball that tar makes of it.
type folder struct {
	io.Reader
	cmd  *exec.Cmd
	said bytes.Buffer
	stop context.CancelFunc
	done error
}

// openFolder starts to pack a folder with metadata.yaml, rootfs and maybe templates.
func openFolder(ctx context.Context, dir string) (*folder, error) {
	args := []string{"--numeric-owner", "--acls", "--xattrs", "--sparse", "--gzip", "-C", dir, "-c", "-f", "-", "--"}
	for _, name := range []string{"metadata.yaml", "templates", "rootfs"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			args = append(args, name)
		} else if name != "templates" {
			return nil, fmt.Errorf(i18n.G("Directory %q holds no image; it has no %s"), dir, name)
		}
	}
	if os.Geteuid() != 0 {
		return nil, errors.New(i18n.G("Must run as root to import from a directory, because the owners of its files are kept"))
	}
	f := &folder{}
	ctx, f.stop = context.WithCancel(ctx)
	f.cmd = exec.CommandContext(ctx, "tar", args...)
	f.cmd.Stderr = &f.said
	out, err := f.cmd.StdoutPipe()
	if err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		f.stop()
		return nil, err
	}
	f.Reader = out
	return f, nil
}

// Read ends in an error when tar does not succeed, so that nobody takes a part for the
// whole.
func (f *folder) Read(b []byte) (int, error) {
	if f.done != nil {
		return 0, f.done
	}
	n, err := f.Reader.Read(b)
	if err == io.EOF {
		if err = f.cmd.Wait(); err != nil {
			err = fmt.Errorf("tar: %w: %s", err, strings.TrimSpace(f.said.String()))
		} else {
			err = io.EOF
		}
	}
	f.done = err
	return n, err
}

// Close ends tar if it still runs.
func (f *folder) Close() error {
	f.stop()
	if f.cmd.ProcessState == nil {
		_ = f.cmd.Wait()
	}
	return nil
}
