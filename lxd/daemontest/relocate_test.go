package daemontest_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

// relocate asks for a move to another member and waits for it.
func relocate(s *daemontest.Server, name, target string, req api.InstancePost) error {
	req.Migration = true
	if req.Name == "" {
		req.Name = name
	}
	op, err := s.UseTarget(target).MigrateInstance(name, req)
	if err != nil {
		return err
	}
	return op.Wait()
}

// content is what an instance's file holds on a member, or a snapshot's; empty if it is not
// there.
func content(s *daemontest.Server, place string) string {
	b, _ := os.ReadFile(filepath.Join(s.Dir, place, "rootfs/content"))
	return string(b)
}

// TestInstancesMoveBetweenMembers: it is the same instance, with all that it has.
func TestInstancesMoveBetweenMembers(t *testing.T) {
	t.Parallel()
	ms, _ := trio(t, 3)
	a, b, c := ms[0], ms[1], ms[2]
	for _, m := range names(t, a) {
		a.Must(a.UseTarget(m).CreateStoragePool(api.StoragePoolsPost{Name: "fast", Driver: "fake"}))
		a.Must(a.UseTarget(m).CreateNetwork(api.NetworksPost{Name: "br1", Type: "bridge"}))
	}
	a.Must(a.CreateNetwork(api.NetworksPost{Name: "br1", Type: "bridge", NetworkPut: api.NetworkPut{Config: map[string]string{"ipv4.address": "10.1.2.1/24"}}}))
	a.Must(a.CreateStoragePool(api.StoragePoolsPost{Name: "fast", Driver: "fake"}))
	createOn(a, "m1", "c1")
	i, _, err := a.GetInstance("c1")
	a.Must(err)
	put := i.Writable()
	put.Config["user.x"], put.Description = "y", "mine"
	put.Devices = map[string]map[string]string{"eth0": {"type": "nic", "network": "br1", "ipv4.address": "10.1.2.9"}}
	op, err := a.UpdateInstance("c1", put, "")
	a.Wait(op, err)
	write := func(s *daemontest.Server, text string) {
		t.Helper()
		a.Must(os.WriteFile(filepath.Join(s.Dir, "containers/c1/rootfs/content"), []byte(text), 0o600))
	}
	write(a, "one")
	snap := func(s *daemontest.Server, name string) {
		t.Helper()
		op, err := s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: name})
		s.Wait(op, err)
	}
	snap(a, "s1")
	write(a, "two")
	snap(a, "s2")
	write(a, "three")
	before, _, err := a.GetInstanceFull("c1")
	a.Must(err)

	// Asked of a third one.
	a.Must(relocate(c, "c1", "m2", api.InstancePost{}))
	after, _, err := c.GetInstanceFull("c1")
	a.Must(err)
	if after.Location != "m2" || after.Description != "mine" || after.Config["user.x"] != "y" || after.Status != "Stopped" || len(after.Snapshots) != 2 ||
		!after.CreatedAt.Equal(before.CreatedAt) {
		t.Errorf("it is %+v", after)
	}
	for k, v := range before.Config {
		if after.Config[k] != v && k != "volatile.last_state.idmap" {
			t.Errorf("%s was %q and is %q", k, v, after.Config[k])
		}
	}
	for k, v := range after.Config {
		if strings.HasPrefix(k, "volatile.sett_") && k != "volatile.sett_done" {
			t.Errorf("%s is %q", k, v)
		}
	}
	if content(b, "containers/c1") != "three" || content(b, "snapshots/c1/s1") != "one" || content(b, "snapshots/c1/s2") != "two" {
		t.Errorf("on m2 are %q %q %q", content(b, "containers/c1"), content(b, "snapshots/c1/s1"), content(b, "snapshots/c1/s2"))
	}
	nothingOf(t, a, "c1")
	leased(t, a, "c1", "m2")
	for _, s := range ms {
		vols, err := s.GetStoragePoolVolumes("pool")
		s.Must(err)
		for _, v := range vols {
			if v.Type == "container" && (v.Location != "m2" || len(v.Config) > 0) {
				t.Errorf("volume %+v", v)
			}
		}
	}
	// Back, to another pool and name, without its snapshots.
	a.Must(relocate(b, "c1", "m1", api.InstancePost{Name: "c9", Pool: "fast", InstanceOnly: true}))
	nothingOf(t, b, "c1")
	moved, _, err := b.GetInstanceFull("c9")
	a.Must(err)
	if moved.Location != "m1" || len(moved.Snapshots) != 0 || moved.ExpandedDevices["root"]["pool"] != "fast" || content(a, "containers/c9") != "three" ||
		moved.Config["volatile.uuid"] != before.Config["volatile.uuid"] {
		t.Errorf("it is %+v", moved)
	}
	leased(t, c, "c9", "m1")
	op, err = a.DeleteInstance("c9")
	a.Wait(op, err)
	nothingOf(t, a, "c9")
}

// leased checks which member alone has an address for an instance.
func leased(t *testing.T, s *daemontest.Server, name, member string) {
	t.Helper()
	all, err := s.GetNetworkLeases("br1")
	s.Must(err)
	at := ""
	for _, l := range all {
		if l.Hostname != "" && l.Type == "static" {
			at += l.Hostname + "@" + l.Location + " "
		}
	}
	if at != name+"@"+member+" " {
		t.Errorf("addresses are leased to %q", at)
	}
}

// nothingOf checks that nothing of an instance is on a member.
func nothingOf(t *testing.T, s *daemontest.Server, name string) {
	t.Helper()
	for _, p := range []string{"containers", "snapshots", "logs", "devices", "run", "backups/instances",
		"storage-pools/pool/containers", "storage-pools/pool/containers-snapshots", "storage-pools/fast/containers"} {
		if _, err := os.Lstat(filepath.Join(s.Dir, p, name)); err == nil {
			t.Errorf("%s/%s is left", p, name)
		}
	}
}

func TestMovesBetweenMembersAreRefused(t *testing.T) {
	t.Parallel()
	ms, _ := trio(t, 3)
	a := ms[0]
	createOn(a, "m1", "c1")
	createOn(a, "m2", "c2")
	for what, r := range map[string]struct {
		target string
		req    api.InstancePost
		status int
		text   string
	}{
		"nobody":         {"m9", api.InstancePost{}, 404, `"m9" not found`},
		"a group":        {"@big", api.InstancePost{}, 501, "groups"},
		"itself":         {"m1", api.InstancePost{}, 400, "already"},
		"a taken name":   {"m2", api.InstancePost{Name: "c2"}, 409, "already in use"},
		"a bad name":     {"m2", api.InstancePost{Name: "-"}, 400, "name"},
		"no such pool":   {"m2", api.InstancePost{Pool: "none"}, 404, `"none" not found`},
		"a project":      {"m2", api.InstancePost{Project: "other"}, 501, "projects"},
		"another server": {"m2", api.InstancePost{Target: &api.InstancePostTarget{}}, 501, "servers"},
	} {
		if err := relocate(a, "c1", r.target, r.req); status(err) != r.status || !strings.Contains(err.Error(), r.text) {
			t.Errorf("%s: %v", what, err)
		}
	}
	op, err := a.CreateInstanceBackup("c1", api.InstanceBackupsPost{Name: "b1", CompressionAlgorithm: "none"})
	a.Wait(op, err)
	if err := relocate(a, "c1", "m2", api.InstancePost{}); status(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "Instance has backups") {
		t.Errorf("with backups: %v", err)
	}
	op, err = a.DeleteInstanceBackup("c1", "b1")
	a.Wait(op, err)
	ms[2].Stop()
	if err := relocate(a, "c1", "m3", api.InstancePost{}); err == nil || !strings.Contains(err.Error(), `"m3"`) {
		t.Errorf("to a dead member: %v", err)
	}
	if i, _, err := a.GetInstance("c1"); err != nil || i.Location != "m1" {
		t.Errorf("it is %+v, %v", i, err)
	}
	a.SetState("c1", "start")
	if err := relocate(a, "c1", "m2", api.InstancePost{}); status(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "Instance is running") {
		t.Errorf("one that runs: %v", err)
	}
	a.SetState("c1", "stop")
	// It runs where it has gone.
	a.Must(relocate(a, "c1", "m2", api.InstancePost{}))
	a.SetState("c1", "start")
	if len(ms[1].Engine.Running()) != 1 || len(a.Engine.Running()) != 0 {
		t.Error("it does not run on m2")
	}
	a.SetState("c1", "stop")

	alone := daemontest.New(t)
	alone.Must(alone.CreateStoragePool(api.StoragePoolsPost{Name: "pool", Driver: "fake"}))
	op, err = alone.CreateInstance(api.InstancesPost{Name: "c1", Source: api.InstanceSource{Type: "none"},
		InstancePut: api.InstancePut{Devices: map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "pool"}}}})
	alone.Wait(op, err)
	if err := relocate(alone, "c1", "m2", api.InstancePost{}); status(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "Target only allowed when clustered") {
		t.Errorf("without a cluster: %v", err)
	}
}

// TestAStuckMoveBetweenMembersIsCancelled: the target neither goes on nor answers, and nobody
// waits for it.
func TestAStuckMoveBetweenMembersIsCancelled(t *testing.T) {
	t.Parallel()
	ms, _ := trio(t, 2)
	a, b := ms[0], ms[1]
	createOn(a, "m1", "c1")
	reached, release := b.Storage.Hold("make")
	op, err := a.UseTarget("m2").MigrateInstance("c1", api.InstancePost{Name: "c1", Migration: true})
	a.Must(err)
	<-reached
	a.Must(op.Cancel())
	if err := op.Wait(); err == nil {
		t.Error("it has ended well")
	}
	// It is what it was, and can be used.
	a.SetState("c1", "start")
	if len(a.Engine.Running()) != 1 {
		t.Error("it does not run where it was")
	}
	a.SetState("c1", "stop")
	release()
	a.Must(relocate(a, "c1", "m2", api.InstancePost{}))
	nothingOf(t, a, "c1")
	if i, _, err := b.GetInstance("c1"); err != nil || i.Location != "m2" {
		t.Errorf("it is %+v, %v", i, err)
	}
}
