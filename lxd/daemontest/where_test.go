package daemontest_test

import (
	"net/http"
	"strings"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/daemontest"
	"sett/lxd/rest"
)

// TestRoutesKnowWhereTheyRun holds the whole table of routes against what they are
// about. A route that runs on the wrong member would work on a server that stands alone,
// and fail only in a cluster.
func TestRoutesKnowWhereTheyRun(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	// By path, with the method in front where methods differ. What is not named here
	// says nothing that differs between members.
	want := map[string]rest.Where{
		"POST /1.0/instances":                                         rest.OnPlacement,
		"GET /1.0":                                                    rest.OnTarget,
		"PUT /1.0":                                                    rest.OnTarget,
		"PATCH /1.0":                                                  rest.OnTarget,
		"/1.0/resources":                                              rest.OnTarget,
		"PUT /1.0/cluster/members/{name}":                             rest.OnLeader,
		"PATCH /1.0/cluster/members/{name}":                           rest.OnLeader,
		"POST /1.0/networks":                                          rest.OnLeader,
		"GET /1.0/networks/{name}":                                    rest.OnTarget,
		"PUT /1.0/networks/{name}":                                    rest.OnTargetOrLeader,
		"PATCH /1.0/networks/{name}":                                  rest.OnTargetOrLeader,
		"POST /1.0/networks/{name}":                                   rest.OnLeader,
		"DELETE /1.0/networks/{name}":                                 rest.OnLeader,
		"/1.0/networks/{name}/state":                                  rest.OnTarget,
		"/1.0/networks/{name}/leases":                                 rest.OnTarget,
		"POST /1.0/storage-pools":                                     rest.OnLeader,
		"GET /1.0/storage-pools/{name}":                               rest.OnTarget,
		"PUT /1.0/storage-pools/{name}":                               rest.OnTargetOrLeader,
		"PATCH /1.0/storage-pools/{name}":                             rest.OnTargetOrLeader,
		"DELETE /1.0/storage-pools/{name}":                            rest.OnLeader,
		"/1.0/storage-pools/{name}/resources":                         rest.OnTarget,
		"POST /1.0/storage-pools/{name}/volumes":                      rest.OnTarget,
		"POST /1.0/storage-pools/{name}/volumes/{type}":               rest.OnTarget,
		"/1.0/storage-pools/{name}/volumes/{type}/{volume}":           rest.OnObject,
		"/1.0/storage-pools/{name}/volumes/{type}/{volume}/state":     rest.OnObject,
		"/1.0/storage-pools/{name}/volumes/{type}/{volume}/snapshots": rest.OnObject,
		"/1.0/storage-pools/{name}/volumes/{type}/{volume}/snapshots/{snapshot}": rest.OnObject,
		"POST /1.0/images":                 rest.OnObject,
		"/1.0/images/{fingerprint}":        rest.OnObject,
		"/1.0/images/{fingerprint}/export": rest.OnObject,
	}
	seen := map[string]bool{}
	for _, r := range s.Daemon.Routes() {
		path := r.Path
		for _, old := range []string{"/1.0/containers", "/1.0/virtual-machines"} {
			if rest, ok := strings.CutPrefix(path, old); ok {
				path = "/1.0/instances" + rest
			}
		}
		w, ok := want[r.Method+" "+path]
		seen[r.Method+" "+path] = true
		if !ok {
			w = want[path]
			seen[path] = true
		}
		switch {
		case strings.HasPrefix(path, "/1.0/instances/{name}"):
			w = rest.OnInstance
		case strings.HasPrefix(path, "/1.0/operations/{id}"):
			w = rest.OnOperation
		}
		if r.Where != w {
			t.Errorf("%s %s runs %s; want %s", r.Method, r.Path, r.Where, w)
		}
		if (r.Where == rest.OnObject) != (r.Locate != nil) {
			t.Errorf("%s %s runs %s, and can locate: %v", r.Method, r.Path, r.Where, r.Locate != nil)
		}
		// What members ask each other is answered by who was asked, and nobody else asks.
		if r.Need == auth.Member && (r.Where != rest.Here || !strings.HasPrefix(r.Path, "/internal/")) {
			t.Errorf("%s %s is for members and runs %s", r.Method, r.Path, r.Where)
		}
		if r.Where == rest.OnInstance && r.Scope != rest.InProject {
			t.Errorf("%s %s is about an instance, and knows of no project", r.Method, r.Path)
		}
	}
	for k := range want {
		if !seen[k] {
			t.Errorf("there is no route %s any more", k)
		}
	}
	if !seen[http.MethodGet+" /1.0/instances/{name}"] {
		t.Error("the routes of instances are not looked at")
	}
}
