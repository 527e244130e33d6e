package daemontest_test

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"sett/lxd/container/fake"
	"sett/lxd/daemontest"
	"sett/shared/api"
)

// TestChangesAtOnceAreAllKept: each of many clients changes a key of its own, and none takes
// back what another has changed.
func TestChangesAtOnceAreAllKept(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	const clients = 12
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			for {
				code, a := s.Do("PATCH", "/1.0/instances/c1", fmt.Sprintf(`{"config": {"user.k%d": "v"}}`, n))
				if code == 400 && strings.Contains(a.Error, "busy") {
					continue
				}
				if code != 200 {
					t.Errorf("got %d %s", code, a.Error)
				}
				return
			}
		})
	}
	wg.Wait()
	i, etag, err := s.GetInstance("c1")
	s.Must(err)
	for n := range clients {
		if i.Config[fmt.Sprintf("user.k%d", n)] != "v" {
			t.Errorf("the change of client %d is lost: %v", n, i.Config)
		}
	}
	// Of those who saw the same, one changes it: the others learn of that at once, or when it
	// is their turn.
	won := 0
	for _, err := range atOnce([]*daemontest.Server{s, s, s, s}, func(s *daemontest.Server) error {
		put := i.Writable()
		put.Config = maps.Clone(put.Config)
		put.Config["user.k0"] = "w"
		for {
			op, err := s.UpdateInstance("c1", put, etag)
			if err == nil {
				err = op.Wait()
			}
			if err == nil || !strings.Contains(err.Error(), "busy") {
				return err
			}
		}
	}) {
		switch {
		case err == nil:
			won++
		case !strings.Contains(err.Error(), "ETag doesn't match") && !strings.Contains(err.Error(), "changed meanwhile"):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of the changes were made", won)
	}
}

// TestAllAreStoppedWithPatience: who says no time does not mean none.
func TestAllAreStoppedWithPatience(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	s.SetState("c1", "start")
	asked, release := s.Engine.Hold(fake.Shutdown)
	defer release()
	if code, a := s.Do("PUT", "/1.0/instances", api.InstancesPut{}); code != 400 {
		t.Errorf("without a state: %d %s", code, a.Error)
	}
	if code, a := s.Do("PUT", "/1.0/instances", `{"state": {"action": "stop"}}`); code != 202 {
		t.Errorf("got %d %s", code, a.Error)
	}
	select {
	case <-asked:
	case <-time.After(30 * time.Second):
		t.Error("the guest was not asked to end")
	}
}
