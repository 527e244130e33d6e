package daemontest_test

import (
	"net/http"
	"sync"
	"testing"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

// atOnce does the same through all members at the same time, and returns what each answered.
func atOnce(ms []*daemontest.Server, f func(s *daemontest.Server) error) []error {
	out := make([]error, len(ms))
	var wg sync.WaitGroup
	for i, s := range ms {
		wg.Go(func() { out[i] = f(s) })
	}
	wg.Wait()
	return out
}

// oneWins wants one success, and the refusals with one of these codes.
func oneWins(t *testing.T, what string, errs []error, codes ...int) {
	t.Helper()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		known := false
		for _, c := range codes {
			known = known || status(err) == c
		}
		if !known {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if won != 1 {
		t.Errorf("%s: %d of the requests succeeded, not one: %v", what, won, errs)
	}
}

// TestTheSameThroughAllMembersAtOnce makes and removes pools and networks through each
// member of a cluster at the same time. Each of them has to tell the others of it.
func TestTheSameThroughAllMembersAtOnce(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 3)
	a := ms[0]
	for _, m := range names(t, a) {
		a.Must(a.UseTarget(m).CreateStoragePool(api.StoragePoolsPost{Name: "pool", Driver: "fake"}))
		a.Must(a.UseTarget(m).CreateNetwork(api.NetworksPost{Name: "br0", Type: "bridge"}))
	}
	oneWins(t, "creating the pool", atOnce(ms, func(s *daemontest.Server) error {
		return s.CreateStoragePool(api.StoragePoolsPost{Name: "pool", Driver: "fake"})
	}), http.StatusConflict)
	oneWins(t, "creating the network", atOnce(ms, func(s *daemontest.Server) error {
		return s.CreateNetwork(api.NetworksPost{Name: "br0", Type: "bridge"})
	}), http.StatusConflict)
	for _, s := range ms {
		p, _, err := s.GetStoragePool("pool")
		s.Must(err)
		n, _, err := s.GetNetwork("br0")
		s.Must(err)
		if p.Status != api.StoragePoolStatusCreated || n.Status != api.NetworkStatusCreated {
			t.Errorf("the pool is %s, the network is %s", p.Status, n.Status)
		}
	}

	// Who saw what another one has changed meanwhile does not change it back.
	_, etag, err := a.GetStoragePool("pool")
	a.Must(err)
	oneWins(t, "changing the pool", atOnce(ms, func(s *daemontest.Server) error {
		return s.UpdateStoragePool("pool", api.StoragePoolPut{Config: map[string]string{"user.by": s.Dir}}, etag)
	}), http.StatusPreconditionFailed)

	m2, etag, err := a.GetClusterMember("m2")
	a.Must(err)
	oneWins(t, "changing a member", atOnce(ms, func(s *daemontest.Server) error {
		put := m2.ClusterMemberPut
		put.Description = s.Dir
		return s.UpdateClusterMember("m2", put, etag)
	}), http.StatusPreconditionFailed)

	oneWins(t, "deleting the pool", atOnce(ms, func(s *daemontest.Server) error { return s.DeleteStoragePool("pool") }), http.StatusNotFound)
	oneWins(t, "deleting the network", atOnce(ms, func(s *daemontest.Server) error { return s.DeleteNetwork("br0") }), http.StatusNotFound)
}
