package fake

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sett/lxd/container"
	"sett/shared/errs"
)

// Guest is one running fake container, as a test sees it.
type Guest struct {
	engine *Engine
	spec   container.Spec
	pid    int

	mu         sync.Mutex
	state      container.State
	deaf       bool // does not react to Shutdown
	mounts     []container.Mount
	nics       []container.NIC
	devices    []container.DeviceRule
	limits     container.Limits
	usage      container.Usage
	interfaces []container.Interface
	console    []byte
	size       [2]int
	viewer     *console // who has the console
	signals    map[*execution]struct{}
	exit       container.Exit
	done       chan struct{}
}

// Spec is what the container was started with.
func (g *Guest) Spec() container.Spec { return g.spec }

// Mounts are those that it has now.
func (g *Guest) Mounts() []container.Mount {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.mounts)
}

// NICs are those that it has now.
func (g *Guest) NICs() []container.NIC { g.mu.Lock(); defer g.mu.Unlock(); return slices.Clone(g.nics) }

// Limits are those that hold now.
func (g *Guest) Limits() container.Limits { g.mu.Lock(); defer g.mu.Unlock(); return g.limits }

// Devices are all rules in the order in which they were made.
func (g *Guest) Devices() []container.DeviceRule {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.devices)
}

// SetUsage is what Usage will answer.
func (g *Guest) SetUsage(u container.Usage) { g.mu.Lock(); defer g.mu.Unlock(); g.usage = u }

// SetInterfaces is what Interfaces will answer.
func (g *Guest) SetInterfaces(i []container.Interface) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.interfaces = i
}

// State is what the guest does.
func (g *Guest) State() container.State { g.mu.Lock(); defer g.mu.Unlock(); return g.state }

// IgnoreShutdown makes init deaf for requests to end.
func (g *Guest) IgnoreShutdown() { g.mu.Lock(); defer g.mu.Unlock(); g.deaf = true }

// Halt ends the container as if the guest had powered itself off.
func (g *Guest) Halt() { g.end(false) }

// Reboot ends it as if the guest had asked for a restart.
func (g *Guest) Reboot() { g.end(true) }

func (g *Guest) end(reboot bool) {
	g.engine.mu.Lock()
	if g.engine.guests[g.spec.ID] == g {
		delete(g.engine.guests, g.spec.ID)
	}
	g.engine.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == container.Stopped {
		return
	}
	g.state = container.Stopped
	g.exit = container.Exit{Reboot: reboot, Time: time.Now()}
	for x := range g.signals {
		x.deliver(syscall.SIGKILL)
	}
	if g.viewer != nil {
		_ = g.viewer.out.Close()
	}
	close(g.done)
}

func (g *Guest) handle() *process {
	return &process{g: g, closed: make(chan struct{})}
}

// process is one daemon's handle of a guest.
type process struct {
	g      *Guest
	once   sync.Once
	closed chan struct{}
}

func (p *process) ID() container.ID { return p.g.spec.ID }
func (p *process) PID() int         { return p.g.pid }

func (p *process) State(context.Context) (container.State, error) {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	return p.g.state, nil
}

func (p *process) Wait(ctx context.Context) (container.Exit, error) {
	if err := p.g.engine.fault(ctx, Wait); err != nil {
		return container.Exit{}, err
	}
	select {
	case <-p.g.done:
		return p.g.exit, nil
	default:
	}
	select {
	case <-p.g.done:
		return p.g.exit, nil
	case <-p.closed:
		return container.Exit{}, os.ErrClosed
	case <-ctx.Done():
		return container.Exit{}, ctx.Err()
	}
}

// do runs f under the guest's lock when the step is not to fail and the guest runs.
func (p *process) do(ctx context.Context, s Step, f func(g *Guest) error) error {
	if err := p.g.engine.fault(ctx, s); err != nil {
		return err
	}
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	if p.g.state == container.Stopped {
		return container.ErrNotRunning
	}
	return f(p.g)
}

func (p *process) Shutdown(ctx context.Context) error {
	deaf := false
	if err := p.do(ctx, Shutdown, func(g *Guest) error { deaf = g.deaf || g.state == container.Frozen; return nil }); err != nil {
		return err
	}
	if !deaf {
		go p.g.end(false)
	}
	return nil
}

func (p *process) Kill(ctx context.Context) error {
	err := p.do(ctx, Kill, func(*Guest) error { return nil })
	if err == container.ErrNotRunning {
		return nil
	}
	if err == nil {
		p.g.end(false)
	}
	return err
}

func (p *process) Freeze(ctx context.Context) error {
	return p.do(ctx, Freeze, func(g *Guest) error { g.state = container.Frozen; return nil })
}

func (p *process) Unfreeze(ctx context.Context) error {
	return p.do(ctx, Unfreeze, func(g *Guest) error { g.state = container.Running; return nil })
}

func (p *process) SetLimits(ctx context.Context, old, new container.Limits) error {
	return p.do(ctx, Limits, func(g *Guest) error { g.limits = new; return nil })
}

func (p *process) AllowDevices(ctx context.Context, rules []container.DeviceRule) error {
	return p.do(ctx, Devices, func(g *Guest) error { g.devices = append(g.devices, rules...); return nil })
}

func (p *process) Usage(ctx context.Context) (u container.Usage, err error) {
	err = p.do(ctx, Usage, func(g *Guest) error {
		u = g.usage
		if u.Processes == 0 {
			u.Processes = int64(1 + len(g.signals))
		}
		if u.CPU == 0 {
			u.CPU = time.Millisecond
		}
		if u.Memory == 0 {
			u.Memory = 1 << 20
		}
		if g.limits.Memory > 0 {
			u.MemoryTotal = g.limits.Memory
		}
		return nil
	})
	return u, err
}

func (p *process) Interfaces(ctx context.Context) (out []container.Interface, err error) {
	err = p.do(ctx, Interfaces, func(g *Guest) error {
		out = slices.Clone(g.interfaces)
		if out == nil {
			out = append(out, container.Interface{Name: "lo", MTU: 65536, Up: true, State: "up", Type: "loopback"})
			for _, n := range g.nics {
				out = append(out, container.Interface{Name: n.GuestName, HWAddr: n.HWAddr, MTU: 1500, State: "down", Type: "broadcast"})
			}
		}
		return nil
	})
	return out, err
}

func (p *process) AddMount(ctx context.Context, m container.Mount) error {
	return p.do(ctx, AddMount, func(g *Guest) error { g.mounts = append(g.mounts, m); return nil })
}

func (p *process) RemoveMount(ctx context.Context, target string) error {
	return p.do(ctx, DelMount, func(g *Guest) error {
		i := slices.IndexFunc(g.mounts, func(m container.Mount) bool { return strings.Trim(m.Target, "/") == strings.Trim(target, "/") })
		if i < 0 {
			return errs.NotFound("Nothing is mounted at %q in %s", target, g.spec.ID)
		}
		g.mounts = slices.Delete(g.mounts, i, i+1)
		return nil
	})
}

func (p *process) AddNIC(ctx context.Context, n container.NIC) error {
	return p.do(ctx, AddNIC, func(g *Guest) error {
		if slices.ContainsFunc(g.nics, func(o container.NIC) bool { return o.GuestName == n.GuestName }) {
			return errs.Conflict("Container %s has an interface %q already", g.spec.ID, n.GuestName)
		}
		g.nics = append(g.nics, n)
		return nil
	})
}

func (p *process) RemoveNIC(ctx context.Context, guestName, hostName string) error {
	return p.do(ctx, DelNIC, func(g *Guest) error {
		i := slices.IndexFunc(g.nics, func(n container.NIC) bool { return n.GuestName == guestName })
		if i < 0 {
			return errs.NotFound("Container %s has no interface %q", g.spec.ID, guestName)
		}
		g.nics = slices.Delete(g.nics, i, i+1)
		return nil
	})
}

func (p *process) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}
