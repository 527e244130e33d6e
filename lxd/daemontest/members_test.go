package daemontest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

// trio is a cluster with a pool, a network, a profile that uses them and an image
// that was imported on the first member.
func trio(t *testing.T, n int) ([]*daemontest.Server, string) {
	t.Helper()
	ms := daemontest.Cluster(t, n)
	a := ms[0]
	for _, m := range names(t, a) {
		a.Must(a.UseTarget(m).CreateStoragePool(api.StoragePoolsPost{Name: "pool", Driver: "fake"}))
		a.Must(a.UseTarget(m).CreateNetwork(api.NetworksPost{Name: "br0", Type: "bridge"}))
	}
	a.Setup()
	return ms, a.Import("tiny")
}

func names(t *testing.T, s *daemontest.Server) []string {
	t.Helper()
	ns, err := s.GetClusterMemberNames()
	s.Must(err)
	return ns
}

// createOn creates an instance on a member.
func createOn(s *daemontest.Server, target, name string) {
	op, err := s.UseTarget(target).CreateInstance(api.InstancesPost{Name: name, Source: api.InstanceSource{Type: "image", Alias: "tiny"}})
	s.Wait(op, err)
}

func TestEveryMemberServesInstancesOfAll(t *testing.T) {
	t.Parallel()
	ms, fp := trio(t, 3)
	createOn(ms[0], "m2", "c2") // whose image comes from m1
	for _, s := range ms {
		i, _, err := s.GetInstance("c2")
		s.Must(err)
		if i.Location != "m2" {
			t.Errorf("c2 is at %q", i.Location)
		}
	}
	// Asked of a member where it is not, it starts where it is.
	ms[2].SetState("c2", "start")
	for _, s := range ms {
		full, err := s.GetInstancesFull(api.InstanceTypeAny)
		s.Must(err)
		if len(full) != 1 || full[0].Status != "Running" || full[0].State.Pid == 0 {
			t.Errorf("got %+v", full)
		}
		st, _, err := s.GetInstanceState("c2")
		s.Must(err)
		if st.Status != "Running" {
			t.Errorf("got %+v", st)
		}
		if out, code := run(s, t, "c2", "echo", "hello"); code != 0 || out != "hello\n" {
			t.Errorf("exec: %v %q", code, out)
		}
	}
	ops, err := ms[0].GetOperations()
	ms[0].Must(err)
	for _, o := range ops {
		if strings.HasPrefix(o.Description, "Executing") && o.Location != "m2" {
			t.Errorf("%s at %s", o.Description, o.Location)
		}
	}
	img, _, err := ms[2].GetImage(fp)
	ms[2].Must(err)
	if img.Fingerprint != fp {
		t.Errorf("got %+v", img)
	}
	op, err := ms[0].DeleteInstance("c2")
	if err == nil {
		err = op.Wait()
	}
	if err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("a running instance was deleted: %v", err)
	}
	ms[0].SetState("c2", "stop")
	op, err = ms[0].DeleteInstance("c2")
	ms[0].Wait(op, err)
}

func TestInstancesSpreadOverTheMembers(t *testing.T) {
	t.Parallel()
	ms, _ := trio(t, 3)
	for _, n := range []string{"a", "b", "c"} {
		ms[0].Create(n, "tiny")
	}
	is, err := ms[1].GetInstances(api.InstanceTypeAny)
	ms[1].Must(err)
	at := map[string]bool{}
	for _, i := range is {
		at[i.Location] = true
	}
	if len(at) != 3 {
		t.Errorf("they are at %v", at)
	}
	// What runs there would go on where nobody knows of it.
	if err := ms[0].DeleteClusterMember("m3", true); status(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "online") {
		t.Errorf("removing a member with an instance by force: %v", err)
	}
	for _, s := range ms {
		srv, _, err := s.UseTarget("m3").GetServer()
		s.Must(err)
		if srv.Environment.ServerName != "m3" {
			t.Errorf("?target=m3 shows %s", srv.Environment.ServerName)
		}
	}
	if _, _, err := ms[0].UseTarget("m9").GetServer(); status(err) != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
}

// TestADeadMemberCostsLittle kills a member without a word.
func TestADeadMemberCostsLittle(t *testing.T) {
	t.Parallel()
	ms, _ := trio(t, 3)
	createOn(ms[0], "m2", "c2")
	createOn(ms[0], "m3", "c3")
	ms[2].Stop()
	began := time.Now()
	full, err := ms[0].GetInstancesFull(api.InstanceTypeAny)
	ms[0].Must(err)
	if d := time.Since(began); d > 1500*time.Millisecond {
		t.Errorf("the list took %s", d)
	}
	for _, i := range full {
		want := map[string]string{"c2": "Stopped", "c3": "Error"}[i.Name]
		if i.Status != want || i.Location == "" {
			t.Errorf("%s at %s is %s", i.Name, i.Location, i.Status)
		}
	}
	began = time.Now()
	_, _, err = ms[0].GetInstance("c3")
	if status(err) != http.StatusServiceUnavailable || !strings.Contains(err.Error(), `"m3"`) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
	if err := ms[0].DeleteStoragePool("pool"); err == nil {
		t.Error("a pool in use was deleted")
	}
	err = ms[0].UpdateStoragePool("pool", api.StoragePoolPut{Config: map[string]string{"user.a": "b"}}, "")
	if status(err) != http.StatusServiceUnavailable || !strings.Contains(err.Error(), "m3") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkExecThroughAnotherMember compares exec on a member with exec through one.
func BenchmarkExecThroughAnotherMember(b *testing.B) {
	ms := daemontest.Cluster(b, 2)
	a := ms[0]
	for _, m := range []string{"m1", "m2"} {
		a.Must(a.UseTarget(m).CreateStoragePool(api.StoragePoolsPost{Name: "pool", Driver: "fake"}))
		a.Must(a.UseTarget(m).CreateNetwork(api.NetworksPost{Name: "br0", Type: "bridge"}))
	}
	a.Setup()
	a.Import("tiny")
	createOn(a, "m1", "c1")
	a.SetState("c1", "start")
	for _, s := range ms {
		b.Run("asked "+map[bool]string{true: "at home", false: "elsewhere"}[s == a], func(b *testing.B) {
			for b.Loop() {
				run(s, b, "c1", "echo", "x")
			}
		})
	}
}
