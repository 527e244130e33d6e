package daemontest_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

// TestWhatAnInstanceUsesIsDeletedWhileItIsMade deletes a profile, a network or a pool at the
// moment in which an instance is made that uses it. One of the two is refused, in words
// that people understand, and what is left fits together.
func TestWhatAnInstanceUsesIsDeletedWhileItIsMade(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	for _, c := range []struct {
		what    string
		make    func() error
		drop    func() error
		request api.InstancesPost
	}{
		{"profile", func() error { return s.CreateProfile(profile("gone")) }, func() error { return s.DeleteProfile("gone") },
			api.InstancesPost{InstancePut: api.InstancePut{Profiles: []string{"default", "gone"}}}},
		{"network", func() error { return s.CreateNetwork(api.NetworksPost{Name: "gone", Type: "bridge"}) }, func() error { return s.DeleteNetwork("gone") },
			api.InstancesPost{InstancePut: api.InstancePut{Devices: map[string]map[string]string{"eth7": {"type": "nic", "network": "gone", "name": "eth7"}}}}},
		{"pool", func() error { return s.CreateStoragePool(api.StoragePoolsPost{Name: "gone", Driver: "fake"}) }, func() error { return s.DeleteStoragePool("gone") },
			api.InstancesPost{InstancePut: api.InstancePut{Devices: map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "gone"}}}}},
	} {
		made, refused := 0, 0
		for i := range 40 {
			s.Must(c.make())
			name := fmt.Sprint("c", i)
			var created, dropped error
			var wg sync.WaitGroup
			wg.Go(func() {
				req := c.request
				req.Name, req.Source = name, api.InstanceSource{Type: "image", Alias: "tiny"}
				op, err := s.CreateInstance(req)
				if err == nil {
					err = op.Wait()
				}
				created = err
			})
			wg.Go(func() {
				for range i % 20 * 2 {
					_, _, _ = s.GetServer() // a little later each time
				}
				dropped = c.drop()
			})
			wg.Wait()
			for _, err := range []error{created, dropped} {
				if err == nil {
					continue
				}
				if text := strings.ToLower(err.Error()); strings.Contains(text, "constraint") || strings.Contains(text, "the log has the reason") || status(err) == http.StatusInternalServerError {
					t.Errorf("%s: %d %v", c.what, status(err), err)
				}
			}
			names, err := s.GetInstanceNames(api.InstanceTypeAny)
			s.Must(err)
			there := slices.Contains(names, name)
			if there != (created == nil) {
				t.Errorf("%s: the create says %v, and the instance is there: %v", c.what, created, there)
			}
			if created == nil && dropped == nil {
				t.Errorf("%s: both were done", c.what)
			}
			if there {
				made++
				op, err := s.DeleteInstance(name)
				s.Wait(op, err)
			} else {
				refused++
			}
			if dropped != nil {
				s.Must(c.drop())
			}
		}
		t.Logf("%s: %d made, %d refused", c.what, made, refused)
	}
}
