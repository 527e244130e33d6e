package rest

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"sett/lxd/auth"
	"sett/lxd/cluster/relay"
	"sett/lxd/entity"
	"sett/shared/errs"
	"sett/shared/log"
)

// Deps are what the chain asks others for. The composition root supplies them.
type Deps struct {
	Log *slog.Logger
	// Authenticate says who stands behind a connection. An unknown caller is no
	// error: the route decides whether that will do.
	Authenticate func(r *http.Request) (auth.Caller, error)
	// Project loads a project, or returns a not-found error.
	Project func(ctx context.Context, name string) (Project, error)
	// Gate holds requests back while the daemon starts and refuses them while it
	// stops; nil lets all pass.
	Gate func(ctx context.Context, r *Route) error
	// Forward hands the request to the member where its object lives and reports
	// whether it did; nil where there never is but one member.
	Forward func(w http.ResponseWriter, r *Request) (bool, error)
}

// Server is the API: an http.Handler over a table of routes.
type Server struct {
	deps   Deps
	root   tree
	routes []Route
}

// New makes a server. Routes that lack what the chain needs are bugs and panic.
func New(deps Deps, routes []Route) *Server {
	s := &Server{deps: deps, routes: routes}
	for i := range routes {
		r := &s.routes[i]
		if r.Need == auth.NeedUnset || r.Handler == nil || r.Summary == "" {
			panic(fmt.Sprintf("route %s %s lacks a need, a handler or a summary", r.Method, r.Path))
		}
		s.root.add(r)
	}
	return s
}

// Routes lists all routes, for tests and references.
func (s *Server) Routes() []Route { return slices.Clone(s.routes) }

// ServeHTTP walks the chain.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	start := time.Now()
	id := requestID()
	l := s.deps.Log.With("request", id)
	ctx := log.With(hr.Context(), l)
	hr = hr.WithContext(ctx)
	cw := &countingWriter{ResponseWriter: w}

	defer func() {
		l.Debug("Handled request", "method", hr.Method, "path", hr.URL.Path, "status", cw.status, "bytes", cw.n, "took", time.Since(start))
	}()
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			l.Error("Panic in a request", "method", hr.Method, "path", hr.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if cw.started() {
				panic(http.ErrAbortHandler)
			}
			writeError(cw, errs.Internal("Internal error, the log has more under request %s", id))
		}
	}()

	if err := s.serve(cw, hr, id); err != nil {
		if errs.KindOf(err) == errs.KindInternal && !errors.Is(err, context.Canceled) {
			l.Warn("Request failed", "method", hr.Method, "path", hr.URL.Path, "err", err)
		}
		switch {
		case !cw.started():
			writeError(cw, err)
		case !cw.hijack:
			// An orderly end would pass half a body off as a whole one.
			panic(http.ErrAbortHandler)
		}
	}
}

func (s *Server) serve(w http.ResponseWriter, hr *http.Request, id string) (err error) {
	// Strangers get no time to trickle, nor when nobody reads what they send: before it
	// answers, the server waits for a body that is not long. Where the deadline cannot be
	// set there is no network.
	bound := func(until time.Time) {
		if hr.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(until)
		}
	}
	bound(time.Now().Add(strangerBody))
	sent, begun := relay.Sent(hr.Header), false
	defer func() {
		if err != nil && sent && !begun {
			relay.Refuse(w.Header())
		}
	}()
	if hr.Method == http.MethodOptions {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	node, vals := s.root.find(segments(hr.URL.EscapedPath()), nil)
	if node == nil || !verbs[hr.Method] {
		return errs.NotFound("not found")
	}
	route := node.route[hr.Method]
	if route == nil {
		return errs.NotImplemented("not implemented")
	}
	if s.deps.Gate != nil {
		if err := s.deps.Gate(hr.Context(), route); err != nil {
			return err
		}
	}
	caller, err := s.deps.Authenticate(hr)
	if err != nil {
		return err
	}
	if caller.Trusted() {
		bound(time.Time{})
	}
	r := &Request{route: route, http: hr, w: w, values: vals, query: hr.URL.Query(), caller: caller, id: id}
	if err := s.identify(r); err != nil {
		return err
	}
	hr = r.http
	if err := s.project(hr.Context(), r); err != nil {
		return err
	}
	if err := s.authorize(r); err != nil {
		return err
	}
	begun = true
	body := hr.Body
	defer func() {
		if errs.Is(err, errs.KindTooLarge) && caller.Trusted() {
			drain(w, body)
		}
	}()
	if s.deps.Forward != nil {
		if done, err := s.deps.Forward(w, r); done || err != nil {
			return err
		}
	}
	if route.Body.Stream {
		bound(time.Time{})
	}
	if !route.Body.Stream {
		limit := route.Body.Limit
		if limit == 0 {
			limit = DefaultBodyLimit
		}
		hr.Body = http.MaxBytesReader(w, body, limit)
		// Here, where nothing is locked yet: a client may be slow.
		if hr.Method != http.MethodGet {
			if err := r.ReadBody(); err != nil {
				return err
			}
		}
	}
	resp, err := route.Handler(hr.Context(), r)
	if err != nil {
		return err
	}
	if resp == nil {
		return errs.Internal("%s %s answered nothing", route.Method, route.Path)
	}
	return resp.write(w, hr)
}

// strangerBody is how long somebody unknown may take to send a body.
const strangerBody = 15 * time.Second

// drain reads on, within bounds, after a body has turned out too large: a client
// that is still writing when the connection ends sees a broken pipe and never the
// answer.
func drain(w http.ResponseWriter, body io.Reader) {
	// Where the deadline cannot be set, the bound on the size must do.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.CopyN(io.Discard, body, 256<<20)
}

// identify puts the one who stands behind a relayed request in the place of the
// member that has sent it. Only members can say who that is.
func (s *Server) identify(r *Request) error {
	defer relay.Strip(r.http.Header)
	if r.caller.Protocol != auth.Cluster {
		return nil
	}
	i, ok, err := relay.Read(r.http.Header)
	if err != nil {
		return errs.Invalid("Member %q does not say who has sent the request: %v", r.caller.Username, err)
	}
	if !ok {
		return nil
	}
	if i.Caller.Protocol == auth.Cluster {
		return errs.Forbidden("Member %q has sent on what a member asks, which is answered by the one that was asked", r.caller.Username)
	}
	l := log.From(r.http.Context()).With("member", r.caller.Username, "request there", i.Request)
	r.relayed, r.caller = true, i.Caller
	r.http = r.http.WithContext(log.With(r.http.Context(), l))
	return nil
}

// project fills in the project and the reference. A restricted caller learns
// nothing of projects that are not its own, not even whether they exist.
func (s *Server) project(ctx context.Context, r *Request) error {
	name := ""
	if r.route.Scope == InProject {
		name = r.Query("project")
		if name == "" {
			name = entity.DefaultProject
		}
		if r.route.Need != auth.Public && !r.caller.CanSee(name) && !r.allProjects() {
			return errs.Forbidden("not authorized")
		}
		p, err := s.deps.Project(ctx, name)
		if errs.Is(err, errs.KindNotFound) && !r.caller.CanSee(name) {
			// To those who may not know it looks like one that holds nothing for them.
			p, err = Project{Name: name, Features: map[string]bool{r.route.Feature: true}}, nil
		}
		if err != nil {
			return err
		}
		r.project = p
	}
	if r.route.Kind != "" && len(r.values) >= r.route.Kind.Names() {
		r.ref = entity.New(r.route.Kind, "", r.values[:r.route.Kind.Names()]...)
		if r.route.Scope == InProject {
			r.ref.Project = r.project.Effective(r.route.Feature)
		}
	}
	return nil
}

// authorize asks whether the caller may. A view of all projects is for everybody
// who is known: the handler shows each caller the projects it can see.
func (s *Server) authorize(r *Request) error {
	need := r.route.Need
	if r.allProjects() {
		need = auth.Trusted
	}
	if err := auth.Allow(r.caller, need, r.project.Name); err != nil {
		return err
	}
	// A project without things of its own sees those of the default one; who may change
	// them is who may change the default project.
	if need == auth.EditProject && !r.caller.CanSee(r.Effective()) && r.route.Feature != "" {
		return errs.Forbidden("not authorized")
	}
	return nil
}

func requestID() string {
	var b [6]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// countingWriter remembers what went out, for the log and to know whether an
// error can still be told.
type countingWriter struct {
	http.ResponseWriter
	status int
	n      int64
	hijack bool
}

func (c *countingWriter) started() bool { return c.status != 0 || c.hijack }

func (c *countingWriter) WriteHeader(code int) {
	// What another member says in between, such as that it waits for the body, is no
	// answer yet.
	if c.status == 0 && (code >= http.StatusOK || code == http.StatusSwitchingProtocols) {
		c.status = code
	}
	c.ResponseWriter.WriteHeader(code)
}

func (c *countingWriter) Write(b []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	n, err := c.ResponseWriter.Write(b)
	c.n += int64(n)
	return n, err
}

// ReadFrom leaves it to the connection how bytes get there; some know a shorter way.
func (c *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	rf, ok := c.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	if c.status == 0 {
		c.status = http.StatusOK
	}
	n, err := rf.ReadFrom(r)
	c.n += n
	return n, err
}

// Unwrap lets http.ResponseController reach flush and hijack.
func (c *countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Hijack is what websockets need.
func (c *countingWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	c.hijack = err == nil
	return conn, rw, err
}
