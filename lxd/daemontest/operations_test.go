package daemontest_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sett/client"
	"sett/lxd/container/fake"
	"sett/lxd/daemontest"
	"sett/shared/api"
)

// endTime is how long an operation may take to end once it was cancelled.
const endTime = 10 * time.Second

// ending is a server with operations that get stuck.
type ending struct {
	*daemontest.Server
	t *testing.T
	// release lets go of what was held beside the operation itself.
	release func()
}

func (e *ending) inst(name string) *api.Instance {
	e.t.Helper()
	i, _, err := e.GetInstance(name)
	e.Must(err)
	return i
}

func (e *ending) status(want string) {
	e.t.Helper()
	if got := e.inst("c1").Status; got != want {
		e.t.Errorf("c1 is %s, want %s", got, want)
	}
}

// deaf makes the guest ignore that it should end.
func (e *ending) deaf() <-chan struct{} {
	e.Engine.Guest(e.Engine.Running()[0]).IgnoreShutdown()
	// A stop waits once the state says that it is asked.
	reached := make(chan struct{})
	go func() {
		defer close(reached)
		for range 1000 {
			if i, _, err := e.GetInstance("c1"); err == nil && i.Status == "Stopping" {
				return
			}
			<-time.After(5 * time.Millisecond)
		}
	}()
	return reached
}

func (e *ending) hold(step string) <-chan struct{} {
	reached, _ := e.Storage.Hold(step)
	return reached
}

func (e *ending) holdEngine(step fake.Step) <-chan struct{} {
	reached, _ := e.Engine.Hold(step)
	return reached
}

// await waits until an operation has come to where it is held.
func (e *ending) await(reached <-chan struct{}, o client.Operation) {
	e.t.Helper()
	select {
	case <-reached:
	case <-time.After(endTime):
		a, _, err := e.GetOperation(o.Get().ID)
		e.t.Fatalf("it has not come to where it is held: %+v, %v", a, err)
	}
}

func (e *ending) action(action string) (client.Operation, error) {
	return e.UpdateInstanceState("c1", api.InstanceStatePut{Action: action, Timeout: -1}, "")
}

func (e *ending) create(name string) (client.Operation, error) {
	return e.CreateInstance(api.InstancesPost{Name: name, Source: api.InstanceSource{Type: "image", Alias: "tiny"}})
}

func (e *ending) change(memory string) (client.Operation, error) {
	i, etag, err := e.GetInstance("c1")
	e.Must(err)
	put := i.Writable()
	put.Config["limits.memory"] = memory
	return e.UpdateInstance("c1", put, etag)
}

func (e *ending) restore() (client.Operation, error) {
	i, etag, err := e.GetInstance("c1")
	e.Must(err)
	put := i.Writable()
	put.Restore = "snap0"
	return e.UpdateInstance("c1", put, etag)
}

func (e *ending) snapshots(want ...string) {
	e.t.Helper()
	names, err := e.GetInstanceSnapshotNames("c1")
	e.Must(err)
	if strings.Join(names, " ") != strings.Join(want, " ") {
		e.t.Errorf("snapshots %v, want %v", names, want)
	}
}

func (e *ending) upload() (client.Operation, error) {
	return e.CreateImage(api.ImagesPost{}, &client.ImageCreateArgs{MetaFile: bytes.NewReader(daemontest.Image("tiny")), MetaName: "image.tar"})
}

// TestEveryOperationEndsWhenItIsCancelled starts each kind of operation, lets it get stuck
// half-way and cancels it. It must end soon, leave what was before, let go of its locks,
// and work when it is tried again.
func TestEveryOperationEndsWhenItIsCancelled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		runs  bool                                    // c1 is to run
		stick func(e *ending) <-chan struct{}         // makes the operation get stuck; says when it is
		start func(*ending) (client.Operation, error) // starts it
		check func(e *ending)                         // looks whether all is as it was
		// then is what is tried afterwards; nil: the same again.
		then func(*ending) (client.Operation, error)
	}{
		{"create", false, func(e *ending) <-chan struct{} { return e.hold("clone") }, func(e *ending) (client.Operation, error) { return e.create("c2") }, func(e *ending) {
			if code, _ := e.Do("GET", "/1.0/instances/c2", nil); code != http.StatusNotFound {
				e.t.Errorf("c2: %d", code)
			}
			for _, d := range []string{"logs/c2", "devices/c2", "containers/c2", "storage-pools/pool/containers/c2"} {
				if _, err := os.Lstat(filepath.Join(e.Dir, d)); err == nil {
					e.t.Errorf("%s is left", d)
				}
			}
		}, nil},
		{"update", true, func(e *ending) <-chan struct{} { return e.holdEngine(fake.Limits) }, func(e *ending) (client.Operation, error) { return e.change("64MiB") }, func(e *ending) {
			if v := e.inst("c1").Config["limits.memory"]; v != "" {
				e.t.Errorf("the limit is %q", v)
			}
			e.status("Running")
		}, nil},
		{"start", false, func(e *ending) <-chan struct{} { return e.holdEngine(fake.Start) }, func(e *ending) (client.Operation, error) { return e.action("start") },
			func(e *ending) { e.status("Stopped") }, nil},
		{"stop", true, (*ending).deaf, func(e *ending) (client.Operation, error) { return e.action("stop") }, func(e *ending) { e.status("Running") },
			func(e *ending) (client.Operation, error) {
				return e.UpdateInstanceState("c1", api.InstanceStatePut{Action: "stop", Force: true}, "")
			}},
		{"stop by force", true, func(e *ending) <-chan struct{} { return e.holdEngine(fake.Kill) }, func(e *ending) (client.Operation, error) {
			return e.UpdateInstanceState("c1", api.InstanceStatePut{Action: "stop", Force: true}, "")
		}, func(e *ending) { e.status("Running") }, nil},
		{"stop all", true, (*ending).deaf, func(e *ending) (client.Operation, error) {
			return e.UpdateInstances(api.InstancesPut{State: &api.InstanceStatePut{Action: "stop", Timeout: -1}}, "")
		}, func(e *ending) { e.status("Running") }, func(e *ending) (client.Operation, error) {
			return e.UpdateInstances(api.InstancesPut{State: &api.InstanceStatePut{Action: "stop", Force: true}}, "")
		}},
		{"restart", true, (*ending).deaf, func(e *ending) (client.Operation, error) { return e.action("restart") }, func(e *ending) { e.status("Running") },
			func(e *ending) (client.Operation, error) {
				return e.UpdateInstanceState("c1", api.InstanceStatePut{Action: "restart", Force: true}, "")
			}},
		{"freeze", true, func(e *ending) <-chan struct{} { return e.holdEngine(fake.Freeze) }, func(e *ending) (client.Operation, error) { return e.action("freeze") },
			func(e *ending) { e.status("Running") }, nil},
		{"unfreeze", true, func(e *ending) <-chan struct{} {
			e.Wait(e.action("freeze"))
			return e.holdEngine(fake.Unfreeze)
		}, func(e *ending) (client.Operation, error) { return e.action("unfreeze") }, func(e *ending) { e.status("Frozen") }, nil},
		{"rename", false, func(e *ending) <-chan struct{} { return e.hold("rename") }, func(e *ending) (client.Operation, error) {
			return e.RenameInstance("c1", api.InstancePost{Name: "c9"})
		}, func(e *ending) { e.status("Stopped") }, nil},
		{"snapshot", true, func(e *ending) <-chan struct{} { return e.hold("clone") }, func(e *ending) (client.Operation, error) {
			return e.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: "new"})
		}, func(e *ending) { e.snapshots("snap0"); e.status("Running") }, nil},
		{"rename of a snapshot", false, func(e *ending) <-chan struct{} { return e.hold("rename") }, func(e *ending) (client.Operation, error) {
			return e.RenameInstanceSnapshot("c1", "snap0", api.InstanceSnapshotPost{Name: "other"})
		}, func(e *ending) { e.snapshots("snap0") }, nil},
		{"restore", false, func(e *ending) <-chan struct{} { return e.hold("clone") }, (*ending).restore, func(e *ending) { e.status("Stopped") }, nil},
		{"restore of one that runs", true, func(e *ending) <-chan struct{} { return e.hold("clone") }, (*ending).restore, func(e *ending) { e.status("Running") }, nil},
		{"import of an image", false, func(e *ending) <-chan struct{} {
			// It waits for a delete of the same image, which is stuck.
			fps, err := e.GetImageFingerprints()
			e.Must(err)
			reached, release := e.Storage.Hold("delete")
			o, err := e.DeleteImage(fps[0])
			e.Must(err)
			e.release = func() {
				release()
				e.Must(o.Wait())
			}
			return reached
		}, (*ending).upload, func(e *ending) {
			e.release()
			if fps, err := e.GetImageFingerprints(); err != nil || len(fps) != 0 {
				e.t.Errorf("images %v (%v)", fps, err)
			}
			if ents, err := os.ReadDir(filepath.Join(e.Dir, "images")); err != nil || len(ents) != 0 {
				e.t.Errorf("files of images: %v (%v)", ents, err)
			}
		}, nil},
		{"copy", false, func(e *ending) <-chan struct{} { return e.hold("clone") }, func(e *ending) (client.Operation, error) {
			return e.CreateInstance(api.InstancesPost{Name: "c3", Source: api.InstanceSource{Type: "copy", Source: "c1"}})
		}, func(e *ending) {
			if code, _ := e.Do("GET", "/1.0/instances/c3", nil); code != http.StatusNotFound {
				e.t.Errorf("c3: %d", code)
			}
			e.snapshots("snap0")
		}, nil},
		{"refresh", false, func(e *ending) <-chan struct{} {
			e.Wait(e.CreateInstance(api.InstancesPost{Name: "c3", Source: api.InstanceSource{Type: "copy", Source: "c1"}}))
			return e.hold("make")
		}, func(e *ending) (client.Operation, error) {
			return e.CreateInstance(api.InstancesPost{Name: "c3", Source: api.InstanceSource{Type: "copy", Source: "c1", Refresh: true}})
		}, func(e *ending) { e.snapshots("snap0") }, nil},
		{"move", false, func(e *ending) <-chan struct{} {
			e.Must(e.CreateStoragePool(api.StoragePoolsPost{Name: "other", Driver: "fake"}))
			return e.hold("make")
		}, func(e *ending) (client.Operation, error) {
			return e.MigrateInstance("c1", api.InstancePost{Name: "c1", Migration: true, Pool: "other"})
		}, func(e *ending) {
			if p := e.inst("c1").ExpandedDevices["root"]["pool"]; p != "pool" {
				e.t.Errorf("it is in pool %s", p)
			}
			e.snapshots("snap0")
		}, nil},
		{"rebuild", false, func(e *ending) <-chan struct{} {
			e.Wait(e.DeleteInstanceSnapshot("c1", "snap0"))
			return e.hold("clone")
		}, func(e *ending) (client.Operation, error) {
			return e.RebuildInstance("c1", api.InstanceRebuildPost{Source: api.InstanceSource{Type: "image", Alias: "tiny"}})
		}, func(e *ending) { e.status("Stopped") }, nil},
		{"exec", true, func(*ending) <-chan struct{} { c := make(chan struct{}); close(c); return c }, func(e *ending) (client.Operation, error) {
			return e.ExecInstance("c1", api.InstanceExecPost{Command: []string{"sleep", "1000"}}, nil)
		}, func(e *ending) { e.status("Running") }, func(e *ending) (client.Operation, error) {
			return e.ExecInstance("c1", api.InstanceExecPost{Command: []string{"true"}}, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := &ending{Server: daemontest.New(t), t: t}
			e.Setup()
			e.Import("tiny")
			e.Wait(e.create("c1"))
			e.Wait(e.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: "snap0"}))
			if c.runs {
				e.Wait(e.action("start"))
			}
			reached := c.stick(e)
			o, err := c.start(e)
			e.Must(err)
			e.await(reached, o)
			id := o.Get().ID
			a, _, err := e.GetOperation(id)
			e.Must(err)
			if a.StatusCode != api.Running || !a.MayCancel || a.Requestor == nil || a.Requestor.Protocol != "unix" {
				t.Errorf("while it is stuck: %+v", a)
			}
			if e.busyToo(c.name) {
				// Who comes meanwhile learns who is at work.
				if other, err := e.change("32MiB"); err != nil {
					t.Error(err)
				} else if err := other.Wait(); err == nil || !strings.Contains(err.Error(), id) {
					t.Errorf("meanwhile: %v; want the operation %s named", err, id)
				}
			}
			e.Must(o.Cancel())
			ctx, cancel := context.WithTimeout(t.Context(), endTime)
			defer cancel()
			if err := o.WaitContext(ctx); err == nil || ctx.Err() != nil {
				t.Fatalf("after the cancel: %v", err)
			}
			a, _, err = e.GetOperation(id)
			e.Must(err)
			if a.StatusCode != api.Cancelled || a.EndedAt == nil {
				t.Errorf("it ended as %+v", a)
			}
			c.check(e)
			if c.then == nil {
				c.then = c.start
			}
			e.Wait(c.then(e))
		})
	}
}

// busyToo tells for which operations a change of c1 is refused meanwhile.
func (e *ending) busyToo(name string) bool {
	switch name {
	case "create", "import of an image", "exec", "copy", "refresh":
		return false
	}
	return true
}

// TestOperationsThatAreTooFarSaySo: what cannot be taken back any more refuses to be
// cancelled, says so beforehand, and ends by itself.
func TestOperationsThatAreTooFarSaySo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		start func(e *ending) (client.Operation, error)
	}{
		{"delete", func(e *ending) (client.Operation, error) { return e.DeleteInstance("c1") }},
		{"delete of a snapshot", func(e *ending) (client.Operation, error) { return e.DeleteInstanceSnapshot("c1", "snap0") }},
		{"delete of an image", func(e *ending) (client.Operation, error) {
			fps, err := e.GetImageFingerprints()
			e.Must(err)
			return e.DeleteImage(fps[0])
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := &ending{Server: daemontest.New(t), t: t}
			e.Setup()
			e.Import("tiny")
			e.Wait(e.create("c1"))
			e.Wait(e.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: "snap0"}))
			reached, release := e.Storage.Hold("delete")
			defer release()
			o, err := c.start(e)
			e.Must(err)
			e.await(reached, o)
			a, _, err := e.GetOperation(o.Get().ID)
			e.Must(err)
			if a.MayCancel {
				t.Error("it says that it can be cancelled")
			}
			if err := o.Cancel(); status(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "any more") {
				t.Errorf("cancelled: %v", err)
			}
			release()
			e.Must(o.Wait())
		})
	}
}

// TestStopByForceTakesOver: a guest that ignores that it should end keeps neither the
// instance nor who stops it by force.
func TestStopByForceTakesOver(t *testing.T) {
	t.Parallel()
	e := &ending{Server: daemontest.New(t), t: t}
	e.Setup()
	e.Import("tiny")
	e.Wait(e.create("c1"))
	e.Wait(e.action("start"))
	reached := e.deaf()
	first, err := e.action("stop")
	e.Must(err)
	e.await(reached, first)
	e.Wait(e.UpdateInstanceState("c1", api.InstanceStatePut{Action: "stop", Force: true}, ""))
	e.status("Stopped")
	e.Must(first.Wait())
	e.Wait(e.action("start"))
}

// TestTokensCanBeCancelled: they wait for ever otherwise.
func TestTokensCanBeCancelled(t *testing.T) {
	t.Parallel()
	e := &ending{Server: daemontest.New(t), t: t}
	e.Setup()
	fp := e.Import("tiny")
	e.Listen()
	trust, err := e.CreateCertificateToken(api.CertificatesPost{CertificatePut: api.CertificatePut{Name: "me", Type: "client"}, Token: true})
	e.Must(err)
	img, err := e.CreateImageSecret(fp)
	e.Must(err)
	for _, o := range []client.Operation{trust, img} {
		e.Must(o.Cancel())
		if err := o.Wait(); err == nil {
			t.Error("a cancelled token ended well")
		}
		a, _, err := e.GetOperation(o.Get().ID)
		e.Must(err)
		if a.StatusCode != api.Cancelled {
			t.Errorf("it ended as %+v", a)
		}
	}
}

// TestHistoryOutlivesTheDaemon: what ended before a restart is listed and shown after it.
func TestHistoryOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	e := &ending{Server: daemontest.New(t), t: t}
	e.Setup()
	e.Import("tiny")
	o, err := e.create("c1")
	e.Wait(o, err)
	bad, err := e.create("c1-")
	if err == nil {
		t.Fatalf("made an instance of a bad name: %v", bad)
	}
	ex, err := e.action("start")
	e.Wait(ex, err)
	run, err := e.ExecInstance("c1", api.InstanceExecPost{Command: []string{"echo", "hunter2"}, Environment: map[string]string{"A": "hunter2"}}, nil)
	e.Wait(run, err)
	e.Listen()
	tok, err := e.CreateCertificateToken(api.CertificatesPost{CertificatePut: api.CertificatePut{Name: "me", Type: "client"}, Token: true})
	e.Must(err)
	secret, _ := tok.Get().Metadata["secret"].(string)
	if secret == "" {
		t.Fatal("the token has no secret")
	}
	before, err := e.GetOperationHistory(false)
	e.Must(err)
	if !has(before, run.Get().ID) || !has(before, o.Get().ID) {
		t.Errorf("the history lacks something: %v", before)
	}
	e.Restart()
	all, err := e.GetOperationHistory(false)
	e.Must(err)
	if !has(all, o.Get().ID) || !has(all, ex.Get().ID) || has(all, run.Get().ID) {
		t.Errorf("after the restart there are %v", all)
	}
	was, _, err := e.GetOperation(o.Get().ID)
	e.Must(err)
	if was.Status != "Success" || was.Description != "Creating instance" || was.EndedAt == nil || len(was.Log) == 0 || was.Requestor == nil ||
		was.Requestor.Protocol != "unix" || len(was.Resources["instances"]) != 1 {
		t.Errorf("got %+v", was)
	}
	if w, _, err := e.GetOperationWait(o.Get().ID, -1); err != nil || w.StatusCode != api.Success {
		t.Errorf("waiting for what has ended: %v", err)
	}
	was, _, err = e.GetOperation(tok.Get().ID)
	e.Must(err)
	if was.StatusCode != api.Failure || !strings.Contains(was.Err, "daemon") || len(was.Metadata) != 0 {
		t.Errorf("the token: %+v", was)
	}
	if err := e.DeleteOperation(o.Get().ID); status(err) != http.StatusBadRequest {
		t.Errorf("cancelling what has ended: %v", err)
	}
	if _, _, err := e.GetOperation("7b2c0a6e-0000-4000-8000-000000000003"); status(err) != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
	if ops, err := e.GetOperations(); err != nil || len(ops) != 0 {
		t.Errorf("running: %v (%v)", ops, err)
	}
}

func has(ops []api.Operation, id string) bool {
	for _, o := range ops {
		if o.ID == id {
			return true
		}
	}
	return false
}

// TestHistoryOfAllMembers: each member lists and shows what the others remember, and does
// without one that is gone.
func TestHistoryOfAllMembers(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 3)
	a, b := ms[0], ms[1]
	for _, m := range names(t, a) {
		a.Must(a.UseTarget(m).CreateStoragePool(api.StoragePoolsPost{Name: "pool", Driver: "fake"}))
	}
	a.Must(a.CreateStoragePool(api.StoragePoolsPost{Name: "pool", Driver: "fake"}))
	o, err := b.UseTarget("m2").CreateInstance(api.InstancesPost{Name: "c1", Source: api.InstanceSource{Type: "none"},
		InstancePut: api.InstancePut{Devices: map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "pool"}}}})
	b.Wait(o, err)
	id := o.Get().ID
	b.Restart()
	for _, m := range ms {
		m.WaitReady()
		listed := false
		for range 50 { // a member that has just come back may be too slow for a list
			all, err := m.GetOperationHistory(false)
			m.Must(err)
			if listed = has(all, id); listed {
				break
			}
			<-time.After(100 * time.Millisecond)
		}
		if !listed {
			t.Error("a member does not list the operation")
		}
		was, _, err := m.GetOperation(id)
		m.Must(err)
		if was.Location != "m2" || was.StatusCode != api.Success {
			t.Errorf("got %+v", was)
		}
	}
	b.Stop()
	begun := time.Now()
	if _, err := a.GetOperationHistory(false); err != nil || time.Since(begun) > 10*time.Second {
		t.Errorf("with a member gone: %v after %s", err, time.Since(begun))
	}
}
