package daemontest_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sett/client"
	"sett/shared/api"
)

func TestCopiesAndMovesOverTheAPI(t *testing.T) {
	t.Parallel()
	s := snapshotServer(t)
	s.Must(s.CreateStoragePool(api.StoragePoolsPost{Name: "second", Driver: "fake"}))
	s.Wait(s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: "b b"}))
	c1, _, err := s.GetInstance("c1")
	s.Must(err)
	copies := func(args client.InstanceCopyArgs) *api.Operation {
		t.Helper()
		op, err := s.CopyInstance(s, *c1, &args)
		s.Must(err)
		s.Must(op.Wait())
		last, err := op.GetTarget()
		s.Must(err)
		return last
	}
	last := copies(client.InstanceCopyArgs{Name: "c2"})
	if got := last.Resources["instances"]; !slices.Equal(got, []string{"/1.0/instances/c2", "/1.0/instances/c1"}) || last.Description != "Creating instance" {
		t.Errorf("%q is about %v", last.Description, got)
	}
	snap, _, err := s.GetInstanceSnapshot("c1", "b b")
	s.Must(err)
	snap.Devices = map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "second"}}
	op, err := s.CopyInstanceSnapshot(s, "c1", *snap, &client.InstanceSnapshotCopyArgs{Name: "c3"})
	s.Must(err)
	s.Must(op.Wait())
	links := func(name, pool string) {
		t.Helper()
		to, err := os.Readlink(filepath.Join(s.Dir, "containers", name))
		if err != nil || !strings.Contains(to, "storage-pools/"+pool+"/") {
			t.Errorf("%s lies at %s, %v", name, to, err)
		}
	}
	links("c2", "pool")
	links("c3", "second")
	s.Wait(s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: "new"}))
	copies(client.InstanceCopyArgs{Name: "c2", Refresh: true})
	names, err := s.GetInstanceSnapshotNames("c2")
	if err != nil || !slices.Equal(names, []string{"b b", "new"}) {
		t.Errorf("snapshots %v, %v", names, err)
	}
	s.Wait(s.MigrateInstance("c2", api.InstancePost{Name: "c4", Migration: true, Pool: "second"}))
	links("c4", "second")
	s.Wait(s.MigrateInstance("c4", api.InstancePost{Name: "c4", Migration: true, Pool: "second"})) // where it is
	links("c4", "second")
	if _, _, err := s.GetInstance("c2"); err == nil {
		t.Error("c2 is still there")
	}
	if code, a := s.Do("GET", "/1.0/storage-pools/second/volumes/container", nil); code != 200 || !strings.Contains(string(a.Metadata), "c4/snapshots/new") {
		t.Errorf("volumes %d %s", code, a.Metadata)
	}
	for _, c := range []struct {
		path, body, want string
		code             int
	}{
		{"/1.0/instances", `{"name":"x","source":{"type":"copy"}}`, "source instance", 400},
		{"/1.0/instances", `{"name":"x","source":{"type":"copy","source":"nope"}}`, "not found", 404},
		{"/1.0/instances", `{"name":"c4","source":{"type":"copy","source":"c1"}}`, "already exists", 409},
		{"/1.0/instances", `{"name":"x","source":{"type":"migration","mode":"pull"}}`, "not implemented", 501},
		{"/1.0/instances/c4", `{"name":"c1","migration":true,"pool":"pool"}`, "in use", 409},
		{"/1.0/instances/c4", `{"name":"a b","migration":true,"pool":"pool"}`, "Invalid", 400},
		{"/1.0/instances/c4", `{"name":"c4","migration":true,"pool":"nope"}`, "not found", 404},
		{"/1.0/instances/c4", `{"name":"c4","migration":true}`, "not implemented", 501},
		{"/1.0/instances/c4", `{"name":"c4","migration":true,"project":"p"}`, "projects is not implemented", 501},
	} {
		if code, a := s.Do("POST", c.path, []byte(c.body)); code != c.code || !strings.Contains(a.Error, c.want) {
			t.Errorf("%s %s: %d %s", c.path, c.body, code, a.Error)
		}
	}
}
