package auth_test

import (
	"testing"

	"sett/lxd/auth"
)

func TestAllow(t *testing.T) {
	t.Parallel()
	admin := auth.Caller{Protocol: "unix", Admin: true}
	web := auth.Caller{Protocol: "tls", Projects: []string{"web"}}
	none := auth.Caller{Protocol: "tls", Projects: []string{}}
	metrics := auth.Caller{Protocol: "tls", Metrics: true}
	stranger := auth.Caller{}
	for _, c := range []struct {
		name    string
		caller  auth.Caller
		need    auth.Need
		project string
		ok      bool
	}{
		{"admin anything", admin, auth.Admin, "", true},
		{"admin project", admin, auth.EditProject, "x", true},
		{"restricted own project", web, auth.EditProject, "web", true},
		{"restricted other project", web, auth.ViewProject, "default", false},
		{"restricted no project given", web, auth.ViewProject, "", false},
		{"restricted admin route", web, auth.Admin, "web", false},
		{"restricted to nothing", none, auth.ViewProject, "default", false},
		{"restricted trusted route", none, auth.Trusted, "", true},
		{"metrics reads metrics", metrics, auth.Metrics, "", true},
		{"metrics reads nothing else", metrics, auth.Trusted, "", false},
		{"restricted reads no metrics", web, auth.Metrics, "web", false},
		{"stranger public", stranger, auth.Public, "", true},
		{"stranger trusted", stranger, auth.Trusted, "", false},
		{"unset need", web, auth.NeedUnset, "web", false},
	} {
		if got := auth.Allow(c.caller, c.need, c.project) == nil; got != c.ok {
			t.Errorf("%s: allowed %v", c.name, got)
		}
	}
}
