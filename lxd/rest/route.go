package rest

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"sett/lxd/auth"
	"sett/lxd/entity"
)

// Handler answers one request.
type Handler func(ctx context.Context, r *Request) (Response, error)

// Scope says what a route makes of ?project=.
type Scope int

const (
	// NoProject routes are about things outside of projects.
	NoProject Scope = iota
	// InProject routes are about things in the project that the request names.
	InProject
)

// Where says which member of a cluster answers.
type Where int

const (
	// Here: the member that was asked.
	Here Where = iota
	// OnInstance: the member that holds the instance of the path.
	OnInstance
	// OnTarget: the member that ?target= names; without it, the one that was asked.
	OnTarget
	// OnPlacement: the member that ?target= names; without it, the one that has the
	// fewest instances.
	OnPlacement
	// OnOperation: the member that runs the operation.
	OnOperation
	// OnLeader: the leader of the database.
	OnLeader
	// OnTargetOrLeader: the member that ?target= names; without it, the leader.
	OnTargetOrLeader
	// OnObject: the member that the route's Locate finds.
	OnObject
)

func (w Where) String() string {
	return [...]string{"here", "on the instance's member", "on ?target=", "on ?target= or where there is room",
		"on the operation's member", "on the leader", "on ?target= or the leader", "on the object's member"}[w]
}

// Body says what a route takes.
type Body struct {
	// Type is a pointer-free example of the JSON body; nil for none.
	Type any
	// Stream bodies are not JSON and not limited by the chain.
	Stream bool
	// Limit in bytes for JSON; 0 means DefaultBodyLimit.
	Limit int64
}

// DefaultBodyLimit is the largest JSON body that a route takes unless it says otherwise.
const DefaultBodyLimit = 8 << 20

// Route is one method of one path.
type Route struct {
	Method  string
	Path    string // "/1.0/profiles/{name}"
	Summary string // one line for the reference
	Handler Handler

	Need  auth.Need
	Scope Scope
	// Feature is the project feature that decides whether the things of this route
	// live in the project or in the default one: "features.profiles".
	Feature string
	Where   Where
	// Locate finds the member of an OnObject route, by its id; 0 is the one that was
	// asked. It runs on servers of a cluster only.
	Locate func(ctx context.Context, r *Request) (int64, error)
	// Lists marks a list that ?all-projects= widens; its handler shows each caller
	// the projects that it can see.
	Lists bool
	Kind  entity.Kind // of the object in the path; its names are filled from the path's values

	Body      Body
	Reply     any // an example of the metadata of a sync reply
	ETag      bool
	Extension string // API extension that brought the route, when it is not of the base API

	// EarlyOK routes answer before the daemon is ready, LateOK routes other than
	// GET while it shuts down.
	EarlyOK, LateOK bool
}

// As completes a route that has what several methods of a path share.
func (r Route) As(method, summary string, need auth.Need, h Handler, more ...func(*Route)) Route {
	r.Method, r.Summary, r.Need, r.Handler = method, summary, need, h
	for _, f := range more {
		f(&r)
	}
	return r
}

// Alias returns copies of routes under another prefix, as /1.0/containers is one
// of /1.0/instances.
func Alias(routes []Route, from, to string) []Route {
	var out []Route
	for _, r := range routes {
		if p, ok := strings.CutPrefix(r.Path, from); ok {
			r.Path = to + p
			out = append(out, r)
		}
	}
	return out
}

// verbs are the methods that the API knows at all.
var verbs = map[string]bool{http.MethodGet: true, http.MethodHead: true, http.MethodPut: true,
	http.MethodPost: true, http.MethodPatch: true, http.MethodDelete: true}

// tree is a router over escaped path segments.
type tree struct {
	lit   map[string]*tree
	any   *tree
	tail  *tree // for a last value that may hold slashes, "{name...}"
	route map[string]*Route
}

func (t *tree) add(r *Route) {
	n := t
	for _, seg := range segments(r.Path) {
		if strings.HasSuffix(seg, "...}") {
			if n.tail == nil {
				n.tail = &tree{}
			}
			n = n.tail
			continue
		}
		if strings.HasPrefix(seg, "{") {
			if n.any == nil {
				n.any = &tree{}
			}
			n = n.any
			continue
		}
		if n.lit == nil {
			n.lit = map[string]*tree{}
		}
		if n.lit[seg] == nil {
			n.lit[seg] = &tree{}
		}
		n = n.lit[seg]
	}
	if n.route == nil {
		n.route = map[string]*Route{}
	}
	if n.route[r.Method] != nil {
		panic("route " + r.Method + " " + r.Path + " stands twice")
	}
	n.route[r.Method] = r
}

func segments(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

// find walks the tree; literals win over values. Values come back unescaped, in
// the order of the path.
func (t *tree) find(segs []string, vals []string) (*tree, []string) {
	if len(segs) == 0 {
		if t.route == nil {
			return nil, nil
		}
		return t, vals
	}
	if n := t.lit[segs[0]]; n != nil {
		if f, v := n.find(segs[1:], vals); f != nil {
			return f, v
		}
	}
	if t.any != nil && segs[0] != "" {
		v, err := url.PathUnescape(segs[0])
		if err != nil {
			return nil, nil
		}
		if f, vs := t.any.find(segs[1:], append(vals[:len(vals):len(vals)], v)); f != nil {
			return f, vs
		}
	}
	if t.tail != nil && segs[0] != "" {
		v, err := url.PathUnescape(strings.Join(segs, "/"))
		if err != nil {
			return nil, nil
		}
		return t.tail, append(vals[:len(vals):len(vals)], v)
	}
	return nil, nil
}
