package lxc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/host/process"
	"sett/lxd/shim"
	"sett/lxd/shim/wire"
	"sett/shared/errs"
)

// Some system calls of a guest wait until a process of the host's answers them. That
// process is not the daemon, which may be away when a guest's init makes such a call,
// but one per container that lives as long as it does. Should it die all the same, the
// daemon starts another, for the calls wait meanwhile.

// answer starts the process.
func (e *Engine) answer(ctx context.Context, id container.ID, p paths, k keep) error {
	if !e.Info().Features["seccomp_notify"] {
		return errs.Invalid("System calls of container %s cannot be intercepted: liblxc has no seccomp notification here", id)
	}
	return e.shim.Intercept(ctx, wire.InterceptRequest{
		Socket: p.answers(), State: p.answerer(), Pending: p.pending(), Container: p.state(), Filter: p.filter(),
		Group: payloadGroup(id), Monitor: monitorGroup(id), IDs: k.Map, Calls: k.Calls,
	})
}

// allowRealTime gives a container's group some of the time that kernels with
// CONFIG_RT_GROUP_SCHED keep for real-time classes, of which a new group has none. All
// groups together may have what the host has, so that we ask for less when that is
// refused.
func allowRealTime(g *guest) error {
	const file = "cpu.rt_runtime_us"
	if _, err := g.group.Read("cpu", file); err != nil {
		return nil // another kernel, or version 2 of cgroups: nothing to be had or needed
	}
	var err error
	for _, share := range []string{"100000", "50000", "10000"} { // of a second
		if err = g.group.Write("cpu", file, share); err == nil {
			return nil
		}
	}
	return errs.Invalid("Container %s may have no real-time classes, as security.syscalls.intercept.sched_setscheduler wants: this kernel gives their time to cgroups and has none left (%s: %v)", g.id, file, err)
}

// answerer finds the process; process.ErrGone when there is none.
func answerer(p paths) (*process.Handle, error) {
	b, err := os.ReadFile(p.answerer())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, process.ErrGone
	}
	if err != nil {
		return nil, err
	}
	var t wire.Task
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("read %s: %w", p.answerer(), err)
	}
	if t.PID <= 1 {
		return nil, process.ErrGone
	}
	return process.Open(t.PID, t.Start)
}

// endAnswerer ends the process of a container that is over or has never been.
func endAnswerer(ctx context.Context, p paths) error {
	h, err := answerer(p)
	if errors.Is(err, process.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	return h.Wait(ctx)
}

// What ends with the container ends a moment before the container is seen to have
// ended. Later attempts come at longer intervals.
const (
	attendFirst = 50 * time.Millisecond
	attendMost  = 10 * time.Second
)

// attend sees to it that there is somebody who answers.
func (g *guest) attend(ctx context.Context) {
	for wait := attendFirst; ; {
		h, err := answerer(g.paths)
		if err == nil {
			begun := time.Now()
			err = h.Wait(ctx)
			_ = h.Close()
			if time.Since(begun) > attendMost {
				wait = attendFirst
			}
		}
		if ctx.Err() != nil {
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if wait = min(2*wait, attendMost); !g.init.Alive() {
			return
		}
		// An error shows in the next round, which finds no process again.
		if err = g.engine.answer(ctx, g.id, g.paths, g.keep); err == nil {
			_ = shim.HandOver(g.paths.answers(), g.state.Init.PID, g.state.Monitor.PID)
		}
	}
}
