package btrfs

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
	"time"

	"golang.org/x/sys/unix"
)

// Version asks the tools for their version.
func Version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "btrfs", "version").Output()
	if err != nil {
		return "", fmt.Errorf("btrfs-progs: %w", err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	_, v, _ := strings.Cut(strings.TrimSpace(line), " v")
	return v, nil
}

// ErrInUse is returned for a device that holds a file system already.
var ErrInUse = errors.New("it holds a file system already")

// Make makes a file system on a device or in a file. With force, what is there is lost.
func Make(ctx context.Context, path, label string, force bool) error {
	args := []string{"-q", "-L", label, path}
	if force {
		args = append([]string{"-f"}, args...)
	}
	out, err := exec.CommandContext(ctx, "mkfs.btrfs", args...).CombinedOutput()
	if err == nil {
		return nil
	}
	if bytes.Contains(out, []byte("appears to contain an existing filesystem")) {
		return ErrInUse
	}
	return fmt.Errorf("mkfs.btrfs %s: %w: %s", path, err, bytes.TrimSpace(out))
}

// Superblock as far as we read it; see "struct btrfs_super_block".
const (
	superOffset = 64 << 10
	superMirror = 64 << 20
	superSize   = 4096
)

// UUID reads the file system's UUID from a device or file; "" if there is no btrfs.
func UUID(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, superSize)
	if _, err := f.ReadAt(b, superOffset); err != nil {
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		return "", err
	}
	if string(b[64:72]) != "_BHRfS_M" {
		return "", nil
	}
	u := b[32:48]
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), nil
}

// busyFor is how long Erase waits for a file system that is still at work.
const busyFor = 10 * time.Second

// Erase takes away the marks by which a device is known as btrfs. The file system must be
// unmounted. It may live on for a moment, where a mount namespace that somebody is just
// making has a copy of the mount; with its end it would write its marks again.
func Erase(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, busyFor)
	defer cancel()
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_EXCL, 0)
	for pause := time.Millisecond; errors.Is(err, unix.EBUSY); pause = min(2*pause, 100*time.Millisecond) {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		f, err = os.OpenFile(path, os.O_WRONLY|unix.O_EXCL, 0)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for _, off := range []int64{superOffset, superMirror} {
		if off+superSize <= size {
			if _, err := f.WriteAt(make([]byte, superSize), off); err != nil {
				return err
			}
		}
	}
	return f.Sync()
}

// FindDevice finds the block device that holds the file system of a UUID: by udev's
// link where udev runs, else by looking at every device. hint is looked at first.
func FindDevice(uuid, hint string) (string, error) {
	try := []string{hint, filepath.Join("/dev/disk/by-uuid", uuid)}
	es, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return "", err
	}
	for _, e := range es {
		try = append(try, filepath.Join("/dev", strings.ReplaceAll(e.Name(), "!", "/")))
	}
	for _, dev := range try {
		if dev == "" {
			continue
		}
		if got, err := UUID(dev); err == nil && strings.EqualFold(got, uuid) {
			return filepath.EvalSymlinks(dev)
		}
	}
	return "", fmt.Errorf("no block device holds the btrfs file system %s", uuid)
}

// Available reports whether the running kernel has btrfs.
func Available() bool {
	b, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return false
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) > 0 && f[len(f)-1] == "btrfs" {
			return true
		}
	}
	return false
}
