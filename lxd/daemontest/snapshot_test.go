package daemontest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sett/client"
	"sett/lxd/daemontest"
	"sett/shared/api"
)

func snapshotServer(t *testing.T) *daemontest.Server {
	t.Helper()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	return s
}

// hostname reads or writes the file that tells the images apart.
func hostname(t *testing.T, s *daemontest.Server, write string) string {
	t.Helper()
	p := filepath.Join(s.Dir, "containers/c1/rootfs/etc/hostname")
	if write != "" {
		s.Must(os.WriteFile(p, []byte(write), 0o644))
	}
	b, err := os.ReadFile(p)
	s.Must(err)
	return strings.TrimSpace(string(b))
}

func TestSnapshotsOverTheAPI(t *testing.T) {
	t.Parallel()
	s := snapshotServer(t)
	wait := func(op client.Operation, err error) { t.Helper(); s.Wait(op, err) }
	wait(s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{}))
	at := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	wait(s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: "b b", ExpiresAt: &at}))
	names, err := s.GetInstanceSnapshotNames("c1")
	if err != nil || strings.Join(names, " ") != "snap0 b b" {
		t.Errorf("%v, %v", names, err)
	}
	all, err := s.GetInstanceSnapshots("c1")
	if err != nil || len(all) != 2 || all[0].Name != "snap0" || !all[1].ExpiresAt.Equal(at) || all[0].ExpandedDevices["root"]["pool"] != "pool" {
		t.Errorf("%+v, %v", all, err)
	}
	if code, a := s.Do("GET", "/1.0/storage-pools/pool/volumes", nil); code != 200 || !strings.Contains(string(a.Metadata), `"/1.0/storage-pools/pool/volumes/container/c1/snapshots/snap0"`) {
		t.Errorf("volumes %d %s", code, a.Metadata)
	}
	full, _, err := s.GetInstanceFull("c1")
	if err != nil || len(full.Snapshots) != 2 {
		t.Errorf("%+v, %v", full, err)
	}
	hostname(t, s, "changed\n")
	wait(s.UpdateInstance("c1", api.InstancePut{Restore: "c1/snap0"}, ""))
	if got := hostname(t, s, ""); got != "tiny" {
		t.Errorf("after the restore it says %q", got)
	}
	_, etag, err := s.GetInstanceSnapshot("c1", "b b")
	s.Must(err)
	wait(s.UpdateInstanceSnapshot("c1", "b b", api.InstanceSnapshotPut{}, etag))
	if _, err := s.UpdateInstanceSnapshot("c1", "b b", api.InstanceSnapshotPut{}, etag); err == nil || !strings.Contains(err.Error(), "ETag") {
		t.Errorf("got %v", err)
	}
	wait(s.RenameInstanceSnapshot("c1", "b b", api.InstanceSnapshotPost{Name: "c"}))
	wait(s.RenameInstance("c1", api.InstancePost{Name: "c2"}))
	if _, err := os.Readlink(filepath.Join(s.Dir, "snapshots/c2")); err != nil {
		t.Error(err)
	}
	wait(s.DeleteInstanceSnapshot("c2", "c"))
	for path, want := range map[string]int{"snapshots/c": 404, "snapshots/snap0": 200} {
		if code, _ := s.Do("GET", "/1.0/instances/c2/"+path, nil); code != want {
			t.Errorf("%s: %d", path, code)
		}
	}
	for body, want := range map[string]string{`{"name":"a/b"}`: "slash", `{"stateful":true}`: "501"} {
		code, a := s.Do("POST", "/1.0/instances/c2/snapshots", body)
		if want == "501" && code != 501 || want == "slash" && (code != 400 || !strings.Contains(a.Error, `Cannot contain "/"`)) {
			t.Errorf("%s: %d %s", body, code, a.Error)
		}
	}
	if code, _ := s.Do("PUT", "/1.0/instances/c2", `{"restore":"nope"}`); code != 404 {
		t.Errorf("restore of nothing: %d", code)
	}
	if code, _ := s.Do("PATCH", "/1.0/instances/c2", `{"restore":"snap0"}`); code != 400 {
		t.Errorf("restore by PATCH: %d", code)
	}
	wait(s.DeleteInstance("c2"))
	for _, d := range []string{"snapshots", "containers", "storage-pools/pool/containers-snapshots"} {
		if ents, _ := os.ReadDir(filepath.Join(s.Dir, d)); len(ents) > 0 {
			t.Errorf("left in %s: %v", d, ents)
		}
	}
}

func TestSnapshotsCutOffByAKillGoAtTheNextStart(t *testing.T) {
	t.Parallel()
	s := snapshotServer(t)
	for _, n := range []string{"whole", "made", "deleted"} {
		s.Wait(s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: n}))
	}
	// One row is written last when a snapshot is made, the other goes first when it is deleted.
	for _, q := range []string{"DELETE FROM instances_snapshots WHERE name = 'made'", "DELETE FROM storage_volumes_snapshots WHERE name = 'deleted'"} {
		if code, a := s.Do("POST", "/internal/sql", map[string]string{"database": "global", "query": q}); code != 200 {
			t.Fatal(a.Error)
		}
	}
	s.Restart()
	names, err := s.GetInstanceSnapshotNames("c1")
	if err != nil || strings.Join(names, " ") != "whole" {
		t.Errorf("%v, %v", names, err)
	}
	ents, err := os.ReadDir(filepath.Join(s.Dir, "storage-pools/pool/containers-snapshots/c1"))
	if err != nil || len(ents) != 1 || ents[0].Name() != "whole" {
		t.Errorf("on disk %v, %v", ents, err)
	}
}

func TestSnapshotThatThePoolRefusesLeavesNothing(t *testing.T) {
	t.Parallel()
	s := snapshotServer(t)
	s.Storage.Break(func(step, path string) error {
		if step == "clone" || step == "seal" && strings.Contains(path, "-snapshots") {
			return errors.New("No space left on device")
		}
		return nil
	})
	op, err := s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{})
	s.Must(err)
	if err := op.Wait(); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("got %v", err)
	}
	s.Storage.Break(nil)
	if names, err := s.GetInstanceSnapshotNames("c1"); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	if ents, _ := os.ReadDir(filepath.Join(s.Dir, "storage-pools/pool/containers-snapshots")); len(ents) > 0 {
		t.Errorf("left %v", ents)
	}
	s.Wait(s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{}))
	hostname(t, s, "kept\n")
	s.Storage.Break(func(step, _ string) error {
		if step == "clone" {
			return errors.New("broken")
		}
		return nil
	})
	op, err = s.UpdateInstance("c1", api.InstancePut{Restore: "snap0"}, "")
	s.Must(err)
	if op.Wait() == nil {
		t.Error("the restore worked")
	}
	s.Storage.Break(nil)
	if got := hostname(t, s, ""); got != "kept" {
		t.Errorf("after the failed restore it says %q", got)
	}
}
