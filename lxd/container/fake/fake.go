package fake

import (
	"context"
	"maps"
	"slices"
	"sync"

	"sett/lxd/container"
	"sett/shared/errs"
	"sett/shared/gate"
)

// Step is a point at which the engine can be told to fail.
type Step string

// The steps, one for each method of Engine and Process that does something.
const (
	Start      Step = "start"
	Find       Step = "find"
	Clean      Step = "clean"
	Files      Step = "files"
	Shutdown   Step = "shutdown"
	Wait       Step = "wait"
	Kill       Step = "kill"
	Freeze     Step = "freeze"
	Unfreeze   Step = "unfreeze"
	Exec       Step = "exec"
	Limits     Step = "limits"
	Devices    Step = "devices"
	Usage      Step = "usage"
	Interfaces Step = "interfaces"
	AddMount   Step = "add-mount"
	DelMount   Step = "remove-mount"
	AddNIC     Step = "add-nic"
	DelNIC     Step = "remove-nic"
	Console    Step = "console"
)

// firstPID lies above the kernel's highest pid, so that a test which signals a
// fake process hits nobody.
const firstPID = 1 << 22

// Engine is the fake. It stands for the host: a second daemon in the same test
// that is given the same Engine finds the containers of the first.
type Engine struct {
	mu       sync.Mutex
	guests   map[container.ID]*Guest
	faults   map[Step][]error
	gate     gate.Gate[Step]
	commands map[string]Command
	pid      int
	starts   []container.Spec
}

// New returns an engine with a few commands: true, false, echo, cat, env, pwd,
// id, sleep, tty and sh -c "exit N".
func New() *Engine {
	e := &Engine{
		guests: map[container.ID]*Guest{}, faults: map[Step][]error{}, pid: firstPID,
	}
	e.commands = builtins()
	return e
}

// Info implements container.Engine.
func (e *Engine) Info() container.Info {
	return container.Info{Driver: "fake", Version: "1", Features: map[string]bool{}}
}

// Fail makes the next calls of a step fail, one error each; a nil lets one pass.
func (e *Engine) Fail(s Step, with ...error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults[s] = append(e.faults[s], with...)
}

// Hold makes the next call of a step wait; see gate.Gate.
func (e *Engine) Hold(s Step) (reached <-chan struct{}, release func()) { return e.gate.Hold(s) }

// Pending is how many calls of a step are still to fail.
func (e *Engine) Pending(s Step) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.faults[s])
}

// Handle makes a command known in all containers of this engine.
func (e *Engine) Handle(name string, c Command) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.commands[name] = c
}

func (e *Engine) fault(ctx context.Context, s Step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.gate.Pass(ctx, s); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.faults[s]
	if len(q) == 0 {
		return nil
	}
	e.faults[s] = q[1:]
	return q[0]
}

// Start implements container.Engine.
func (e *Engine) Start(ctx context.Context, spec container.Spec) (container.Process, error) {
	if err := spec.ID.Check(); err != nil {
		return nil, err
	}
	if err := e.fault(ctx, Start); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.guests[spec.ID] != nil {
		return nil, errs.Conflict("Container %s is running already", spec.ID)
	}
	e.pid++
	g := &Guest{
		engine: e, spec: spec, pid: e.pid, state: container.Running, done: make(chan struct{}),
		mounts: slices.Clone(spec.Mounts), nics: slices.Clone(spec.NICs),
		limits: spec.Limits, devices: slices.Clone(spec.DeviceRules), signals: map[*execution]struct{}{},
	}
	e.guests[spec.ID] = g
	e.starts = append(e.starts, spec)
	return g.handle(), nil
}

// Find implements container.Engine.
func (e *Engine) Find(ctx context.Context, id container.ID, runDir string) (container.Process, error) {
	if err := e.fault(ctx, Find); err != nil {
		return nil, err
	}
	if g := e.Guest(id); g != nil {
		return g.handle(), nil
	}
	return nil, container.ErrNotRunning
}

// Clean implements container.Engine.
func (e *Engine) Clean(ctx context.Context, id container.ID, runDir string) error {
	if err := e.fault(ctx, Clean); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.guests[id] != nil {
		return errs.Conflict("Container %s is running already", id)
	}
	return nil
}

// Guest returns the running container, to be scripted; nil when it does not run.
func (e *Engine) Guest(id container.ID) *Guest {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.guests[id]
}

// Running lists what runs, in no order.
func (e *Engine) Running() []container.ID {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Keys(e.guests))
}

// Starts lists the specifications of all containers ever started, oldest first.
func (e *Engine) Starts() []container.Spec {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.starts)
}
