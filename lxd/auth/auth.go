// Package auth says who calls and what callers may do.
//
// Authentication (which connection is whose) is the REST layer's; it ends in a
// Caller. What a route needs is a Need; Allow is the only place that decides.
package auth

import (
	"slices"

	"sett/lxd/event"
	"sett/shared/errs"
)

// Cluster is the protocol of a member that calls another one.
const Cluster = "cluster"

// Caller is somebody who makes requests.
type Caller struct {
	// Protocol is how the caller was recognised: unix, tls, cluster, or empty for
	// somebody unknown.
	Protocol string
	Username string // of the unix user, or the certificate's fingerprint
	Address  string // where the connection comes from
	Admin    bool
	// Projects limits a restricted caller; nil for others.
	Projects []string
	// Metrics callers may read metrics and nothing else.
	Metrics bool
}

// Trusted reports whether the caller is known at all.
func (c Caller) Trusted() bool { return c.Protocol != "" && !c.Metrics }

// Requestor is the caller as events and operations show it.
func (c Caller) Requestor() *event.Requestor {
	return &event.Requestor{Username: c.Username, Protocol: c.Protocol, Address: c.Address}
}

// Need is what a route demands of its caller.
type Need int

const (
	// NeedUnset is the zero value: a route without a need is a bug that a test finds.
	NeedUnset Need = iota
	// Public routes answer anybody; the handler shows strangers less.
	Public
	// Trusted routes answer every known caller.
	Trusted
	// ViewProject and EditProject routes are about things inside the project that
	// the request names; restricted callers must have that project.
	ViewProject
	EditProject
	// Admin routes are for unrestricted callers.
	Admin
	// Metrics is for admins and for metrics certificates.
	Metrics
	// Member is for other members of the cluster that ask in their own name.
	Member
)

func (n Need) String() string {
	return [...]string{"unset", "public", "trusted", "view-project", "edit-project", "admin", "metrics", "member"}[n]
}

// Allow decides whether a caller may do what a route is for.
func Allow(c Caller, n Need, project string) error {
	switch {
	case n == Public:
		return nil
	case n == Metrics && (c.Metrics || c.Admin):
		return nil
	case n == Member && c.Protocol == Cluster:
		return nil
	case n == Member:
		return errs.Forbidden("not authorized")
	case !c.Trusted():
		return errs.Forbidden("not authorized")
	case c.Admin, n == Trusted:
		return nil
	case n == ViewProject || n == EditProject:
		if project != "" && slices.Contains(c.Projects, project) {
			return nil
		}
	}
	return errs.Forbidden("not authorized")
}

// CanSee reports whether a caller may know of things in a project.
func (c Caller) CanSee(project string) bool {
	return c.Admin || slices.Contains(c.Projects, project)
}

// Is reports whether the caller is the one who asked for something. Addresses do not
// count: a caller may come over several.
func (c Caller) Is(by *event.Requestor) bool {
	return by != nil && c.Trusted() && c.Protocol == by.Protocol && c.Username == by.Username
}
