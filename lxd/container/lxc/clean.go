package lxc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
)

// cleanTimeout bounds what happens after a container's end.
const cleanTimeout = 30 * time.Second

// Clean implements container.Engine.
func (e *Engine) Clean(ctx context.Context, id container.ID, runDir string) error {
	if err := id.Check(); err != nil {
		return err
	}
	if err := e.claim(id); err != nil {
		return err
	}
	defer e.release(id)
	p := paths{runDir}
	if _, err := os.Stat(p.starting()); err == nil {
		hold, err := lockStart(ctx, p, unix.LOCK_EX)
		if err != nil {
			return err
		}
		defer hold.Close()
	}
	if err := e.stopped(ctx, p, id); err != nil {
		return err
	}
	return e.clean(ctx, id, p)
}

// clean ends strays and removes all that a container leaves outside of its own
// files. Nothing of it needs to be there.
func (e *Engine) clean(ctx context.Context, id container.ID, p paths) error {
	var all []error
	if err := endAnswerer(ctx, p); err != nil {
		all = append(all, err)
	}
	for _, name := range []string{payloadGroup(id), monitorGroup(id), pivotGroup(id)} {
		g := e.layout.Group(name)
		if err := g.Kill(ctx); err != nil {
			all = append(all, fmt.Errorf("end the processes in cgroup %s: %w", name, err))
			continue
		}
		if err := g.Remove(ctx); err != nil {
			all = append(all, err)
		}
	}
	for _, f := range []string{p.state(), p.filter(), p.policy(), p.starting(), p.reboot(), p.nics(), p.nics() + ".new", p.state() + ".new", p.filter() + ".new", p.answers(), p.answerer(), p.answerer() + ".new", p.pending()} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, err)
		}
	}
	if err := os.RemoveAll(p.stage()); err != nil {
		all = append(all, err)
	}
	// liblxc makes a folder for its locks and leaves it. It is named after our own
	// RunDir, so nobody else is in there.
	if strings.HasPrefix(p.lock(), "/run/lxc/lock/") {
		if err := os.RemoveAll(p.lock()); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

func logSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// lastErrors picks liblxc's own words out of what it has logged since offset.
// fallback is for a log that says nothing.
func lastErrors(path string, offset int64, fallback string) string {
	f, err := os.Open(path)
	if err != nil {
		return fallback
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return fallback
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return fallback
	}
	var found []string
	for line := range bytes.Lines(data) {
		// "lxc NAME 20261123234709.270 ERROR    conf - conf.c:function:123 - Text"
		head, rest, ok := strings.Cut(string(bytes.TrimSpace(line)), " - ")
		if !ok || !strings.Contains(head, " ERROR ") {
			continue
		}
		if _, text, ok := strings.Cut(rest, " - "); ok {
			found = append(found, text)
		}
	}
	if len(found) == 0 {
		return fallback
	}
	// The first is the cause, and what follows is each caller repeating it.
	return found[0]
}
