package instance_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"sett/lxd/config"
	"sett/lxd/container"
	"sett/lxd/container/fake"
	"sett/lxd/device"
	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/undo"
)

// cards is a kind of nic in memory that knows what it holds, and whose steps can be
// made to fail once.
type cards struct {
	mu             sync.Mutex
	joined, inUse  map[string]bool // "INSTANCE.DEVICE"
	priority       map[string]string
	brought        map[string]device.Config // what those in use were brought to
	fail           map[string]error
	swept, address int
	during         func(step string) // is called for each
}

func newCards() *cards {
	return &cards{joined: map[string]bool{}, inUse: map[string]bool{}, priority: map[string]string{}, brought: map[string]device.Config{}, fail: map[string]error{}}
}

func (k *cards) Name() string { return "nic" }
func (k *cards) Keys(context.Context, device.Services, string, device.Config) (config.Table, error) {
	return config.NewTable(config.String("network", ""), config.String("live", "", config.Live()), config.String("limits.priority", "", config.Live())), nil
}
func (k *cards) Check(context.Context, device.Services, string, device.Config) error { return nil }
func (k *cards) HotPlug(device.Config) bool                                          { return true }
func (k *cards) New(env device.Env) (device.Device, error)                           { return &card{k, env}, nil }
func (k *cards) Sweep(context.Context, device.Instance, func(string) bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.swept++
	return nil
}

type card struct {
	k   *cards
	env device.Env
}

func (c *card) id() string { return c.env.Instance.Name + "." + c.env.Name }

func (c *card) did(step string, change func()) error {
	at := step + " " + c.env.Name
	if c.k.during != nil {
		c.k.during(at)
	}
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if err := c.k.fail[at]; err != nil {
		delete(c.k.fail, at)
		return err
	}
	change()
	return nil
}

func (c *card) Add(ctx context.Context) error {
	mac := c.env.Volatile["hwaddr"]
	err := c.did("add", func() {
		c.k.joined[c.id()] = true
		if mac == "" {
			c.k.address++
			mac = fmt.Sprintf("00:16:3e:00:00:%02x", c.k.address)
		}
	})
	if err != nil || c.env.Volatile["hwaddr"] != "" {
		return err
	}
	return c.env.SaveVolatile(ctx, map[string]string{"hwaddr": mac})
}

func (c *card) Remove(context.Context) error {
	return c.did("remove", func() { delete(c.k.joined, c.id()) })
}

func (c *card) Start(_ context.Context, u *undo.Stack) (device.Plug, error) {
	err := c.did("start", func() { c.k.inUse[c.id()] = true; c.bring() })
	if err != nil {
		return device.Plug{}, err
	}
	u.Push(func() error { return c.PostStop(context.Background()) })
	return device.Plug{NICs: []container.NIC{{HostName: "veth0", GuestName: c.env.Name}}}, nil
}

func (c *card) Stop(context.Context) (device.Unplug, error) {
	return device.Unplug{NICs: []device.Unnic{{GuestName: c.env.Name, HostName: "veth0"}}}, nil
}

func (c *card) PostStop(context.Context) error {
	return c.did("post-stop", func() { delete(c.k.inUse, c.id()); delete(c.k.brought, c.id()) })
}

func (c *card) Update(context.Context, device.Config, []string) error {
	return c.did("update "+c.env.Config["live"], c.bring)
}

func (c *card) bring() {
	c.k.brought[c.id()] = maps.Clone(c.env.Config)
	c.k.priority[c.id()] = c.env.Config["limits.priority"]
}

func (c *card) Settle(context.Context) (in bool, err error) {
	err = c.did("settle", func() {
		was := c.k.brought[c.id()]
		if in = was != nil && was["network"] == c.env.Config["network"]; in {
			c.bring()
		}
	})
	return in, err
}

func (k *cards) holds() (joined, inUse int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.joined), len(k.inUse)
}

func nic(more ...string) map[string]string {
	c := map[string]string{"type": "nic", "network": "n"}
	for i := 0; i+1 < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

func twoNICs(r *api.InstancesPost) {
	r.Devices = map[string]map[string]string{"a": nic(), "b": nic()}
}

func TestFailedStepsOfACreateLeaveNothing(t *testing.T) {
	t.Parallel()
	boom := errs.Internal("boom")
	for _, at := range []string{"add a", "add b", "create"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.nics.fail[at], w.pools.fail[at] = boom, boom
			if err := w.create("c1", twoNICs); err == nil || !strings.Contains(err.Error(), "boom") {
				t.Fatalf("got %v", err)
			}
			w.clean()
			if joined, used := w.nics.holds(); joined+used != 0 {
				t.Errorf("%d devices joined, %d in use", joined, used)
			}
			delete(w.nics.fail, at)
			delete(w.pools.fail, at)
			w.ok(w.create("c1", twoNICs))
		})
	}
}

func TestFailedStepsOfAStartAreTakenBack(t *testing.T) {
	t.Parallel()
	boom := errs.Internal("boom")
	for _, at := range []string{"mount", "start a", "start b", "engine"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.ok(w.create("c1", twoNICs))
			before := w.load("c1").Config
			w.nics.fail[at], w.pools.fail[at] = boom, boom
			if at == "engine" {
				w.engine.Fail(fake.Start, boom)
			}
			if err := w.start("c1"); err == nil || !strings.Contains(err.Error(), "boom") {
				t.Fatalf("got %v", err)
			}
			if _, used := w.nics.holds(); used != 0 {
				t.Errorf("%d devices in use", used)
			}
			for v, n := range w.pools.vols {
				if n != 0 {
					t.Errorf("volume %v is mounted %d times", v, n)
				}
			}
			if got := w.load("c1").Config; got["volatile.last_state.power"] != before["volatile.last_state.power"] {
				t.Errorf("power %q", got["volatile.last_state.power"])
			}
			w.is("c1", instance.Stopped)
			w.ok(w.start("c1")) // the next try works
			w.ok(w.stop("c1", instance.StopOptions{Force: true}))
			if _, used := w.nics.holds(); used != 0 {
				t.Errorf("%d devices in use after the stop", used)
			}
		})
	}
}

func TestFailedStepsOfADeleteCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	boom := errs.Internal("boom")
	for _, at := range []string{"remove a", "remove b", "delete"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.ok(w.create("c1", twoNICs))
			w.nics.fail[at], w.pools.fail[at] = boom, boom
			if err := w.s.Delete(t.Context(), "default", "c1", nil); err == nil || !strings.Contains(err.Error(), "boom") {
				t.Fatalf("got %v", err)
			}
			if err := w.start("c1"); err == nil || !strings.Contains(err.Error(), "delete") {
				t.Errorf("what is half deleted started: %v", err)
			}
			w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
			w.clean()
			if joined, used := w.nics.holds(); joined+used != 0 {
				t.Errorf("%d devices joined, %d in use", joined, used)
			}
		})
	}
}

// own takes out of a configuration what clients do not see.
func own(c map[string]string) {
	maps.DeleteFunc(c, func(k, _ string) bool { return strings.HasPrefix(k, "volatile.sett_") })
}

// change is what a client sends back after an edit of the devices.
func (w *world) change(name string, devices map[string]map[string]string) error {
	i := w.load(name)
	c := maps.Clone(i.Config)
	own(c)
	return w.s.Update(w.t.Context(), admin, i, instance.Change{Config: c, Devices: devices, Profiles: []string{"default"}})
}

// TestFailedUpdateBringsDevicesBack fails each step of a change that takes one nic
// away, changes another live and adds a third: afterwards all is as before.
func TestFailedUpdateBringsDevicesBack(t *testing.T) {
	t.Parallel()
	boom := errs.Internal("boom")
	for _, c := range []struct {
		at   string
		cold bool
	}{{"post-stop a", false}, {"remove a", false}, {"update 2 b", false}, {"add c", false}, {"start c", false}, {"engine", false}, {"remove a", true}, {"add c", true}} {
		t.Run(fmt.Sprint(c.at, " cold ", c.cold), func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.ok(w.create("c1", func(r *api.InstancesPost) {
				r.Devices = map[string]map[string]string{"a": nic(), "b": nic("live", "1")}
			}))
			if !c.cold {
				w.ok(w.start("c1"))
			}
			before := w.load("c1")
			w.nics.fail[c.at] = boom
			if c.at == "engine" {
				w.engine.Fail(fake.AddNIC, boom)
			}
			err := w.change("c1", map[string]map[string]string{"b": nic("live", "2"), "c": nic()})
			if err == nil || !strings.Contains(err.Error(), "boom") {
				t.Fatalf("got %v", err)
			}
			after := w.load("c1")
			if !maps.Equal(before.Config, after.Config) || len(after.Devices) != 2 {
				t.Errorf("config was %v\nand is %v", before.Config, after.Config)
			}
			want := 2
			if c.cold {
				want = 0
			}
			if joined, used := w.nics.holds(); joined != 2 || used != want {
				t.Errorf("%d devices joined, %d in use: %v", joined, used, w.nics.inUse)
			}
			if g := w.guest("c1"); g != nil && len(g.NICs()) != want {
				t.Errorf("the guest has %v", g.NICs())
			}
			w.ok(w.change("c1", map[string]map[string]string{"b": nic("live", "2"), "c": nic()}))
		})
	}
}

// TestKilledUpdateOfDevicesIsTakenBack kills the daemon in the middle of a change that brings
// one nic to another network, changes another live and adds a third. The next daemon finds
// the old configuration in the database, and the guest has what that says.
func TestKilledUpdateOfDevicesIsTakenBack(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"update 2 b", "post-stop a", "add a", "start a", "add c", "start c"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.ok(w.create("c1", func(r *api.InstancesPost) {
				r.Devices = map[string]map[string]string{"a": nic(), "b": nic("live", "1")}
			}))
			w.ok(w.start("c1"))
			before := w.load("c1")
			died, over := make(chan struct{}), make(chan struct{})
			w.nics.during = func(step string) {
				if step == at {
					close(died)
					<-over // nothing more is done by this daemon
				}
			}
			first := w.s
			var killed sync.WaitGroup
			i := before
			c := maps.Clone(i.Config)
			own(c)
			killed.Go(func() {
				_ = first.Update(t.Context(), admin, i, instance.Change{Config: c, Profiles: []string{"default"},
					Devices: map[string]map[string]string{"a": nic("network", "other"), "b": nic("live", "2"), "c": nic()}})
			})
			<-died
			w.nics.mu.Lock()
			left := maps.Clone(w.nics.brought)
			w.nics.mu.Unlock()
			defer killed.Wait()
			defer close(over)
			w.nics.during = nil
			w.s = w.service()
			w.ok(w.s.Recover(t.Context()))
			w.is("c1", instance.Running)
			w.nics.mu.Lock()
			defer w.nics.mu.Unlock()
			for name, want := range before.Devices {
				if got := w.nics.brought["c1."+name]; !maps.Equal(got, want) || !w.nics.inUse["c1."+name] {
					t.Errorf("nic %s is %v, in use %v; it was left as %v", name, got, w.nics.inUse["c1."+name], left["c1."+name])
				}
			}
			if now := w.load("c1").Config; now["volatile.a.hwaddr"] != before.Config["volatile.a.hwaddr"] {
				t.Errorf("the MAC address is %q", now["volatile.a.hwaddr"])
			}
		})
	}
}

func TestDevicesWhoseNamesBeginAlikeAreApart(t *testing.T) {
	t.Parallel()
	for _, run := range []bool{false, true} {
		w := setup(t)
		w.ok(w.create("c1", func(r *api.InstancesPost) { r.Devices = map[string]map[string]string{"a": nic(), "a.5": nic()} }))
		if run {
			w.ok(w.start("c1"))
		}
		before := w.load("c1").Config["volatile.a.5.hwaddr"]
		w.ok(w.change("c1", map[string]map[string]string{"a.5": nic()}))
		after := w.load("c1").Config
		if after["volatile.a.5.hwaddr"] != before || before == "" || after["volatile.a.hwaddr"] != "" {
			t.Errorf("running %v: the address was %q, and %v is left", run, before, after)
		}
	}
}

// TestGoneDevicesCanBeRemoved: a guest may unmount what was mounted for it, and a
// daemon may have died between the unplug and the database.
func TestGoneDevicesCanBeRemoved(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	w.ok(w.change("c1", map[string]map[string]string{"d": {"type": "disk", "path": "/mnt", "source": w.dir}}))
	w.engine.Fail(fake.DelMount, errs.NotFound("Nothing is mounted"))
	w.ok(w.change("c1", nil))
	if w.nics.swept == 0 {
		t.Error("nobody looked for what a dead daemon left")
	}
}
