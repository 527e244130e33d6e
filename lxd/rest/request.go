package rest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/auth"
	"sett/lxd/cluster/relay"
	"sett/lxd/entity"
	"sett/shared/errs"
)

// Project is what the chain knows of the project of a request.
type Project struct {
	Name     string // as the request named it
	Features map[string]bool
}

// Effective is the project that holds things of a feature: the project itself
// where it has the feature, else the default one.
func (p Project) Effective(feature string) string {
	if feature == "" || p.Features[feature] {
		return p.Name
	}
	return entity.DefaultProject
}

// Request is what a handler gets. Only the chain makes one.
type Request struct {
	route   *Route
	http    *http.Request
	w       http.ResponseWriter
	values  []string
	query   url.Values
	caller  auth.Caller
	project Project
	ref     entity.Ref
	read    []byte // the JSON body, once it has been read
	id      string
	relayed bool
}

// Caller is who asks.
func (r *Request) Caller() auth.Caller { return r.caller }

// ID is under what the log has the request.
func (r *Request) ID() string { return r.id }

// Route is what the request was found to be about.
func (r *Request) Route() *Route { return r.route }

// Relayed reports whether another member has sent the request on: this one answers
// for itself and asks no others.
func (r *Request) Relayed() bool { return r.relayed }

// Alone reports whether the answer is to be about this member only: another one has
// sent the request, for a client or for itself.
func (r *Request) Alone() bool { return r.relayed || r.caller.Protocol == auth.Cluster }

// Identity is who stands behind the request, for those to whom it is sent on.
func (r *Request) Identity() *relay.Identity { return &relay.Identity{Caller: r.caller, Request: r.id} }

// Project is the project that the request names, as far as projects matter here.
func (r *Request) Project() Project { return r.project }

// Effective is the name of the project that holds what the route is about.
func (r *Request) Effective() string { return r.project.Effective(r.route.Feature) }

// Ref is the object of the path.
func (r *Request) Ref() entity.Ref { return r.ref }

// Name is the last value of the path.
func (r *Request) Name() string { return r.Value(len(r.values) - 1) }

// Value is the n-th value of the path, unescaped.
func (r *Request) Value(n int) string {
	if n < 0 || n >= len(r.values) {
		return ""
	}
	return r.values[n]
}

// Query reads a parameter of the URL.
func (r *Request) Query(name string) string { return r.query.Get(name) }

// HasQuery reports whether a parameter was given at all.
func (r *Request) HasQuery(name string) bool { return r.query.Has(name) }

// Header reads a header.
func (r *Request) Header(name string) string { return r.http.Header.Get(name) }

// Path is the path as the client sent it, for answers that name URLs.
func (r *Request) Path() string { return r.http.URL.EscapedPath() }

// Body is the raw body, for routes that stream.
func (r *Request) Body() io.Reader { return r.http.Body }

// Begins reads ahead whether the body begins with a byte.
func (r *Request) Begins(with byte) bool {
	if r.read != nil {
		return len(r.read) > 0 && r.read[0] == with
	}
	ahead := bufio.NewReader(r.http.Body)
	r.http.Body = struct {
		io.Reader
		io.Closer
	}{ahead, r.http.Body}
	first, err := ahead.Peek(1)
	return err == nil && first[0] == with
}

// ContentLength is the length of the body, or -1.
func (r *Request) ContentLength() int64 { return r.http.ContentLength }

// HTTP gives the request itself to handlers that need more, such as multipart uploads.
func (r *Request) HTTP() *http.Request { return r.http }

// Recursion is the level that ?recursion= asks for; what is not a number is 0.
func (r *Request) Recursion() int {
	n, err := strconv.Atoi(r.Query("recursion"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (r *Request) allProjects() bool {
	v := r.Query("all-projects")
	return r.route.Lists && (v == "true" || v == "1")
}

// AllProjects reads ?all-projects= and refuses it together with a project. Where
// it is true the handler shows only what Caller().CanSee.
func (r *Request) AllProjects() (bool, error) {
	all := r.allProjects()
	if all && r.HasQuery("project") {
		return false, errs.Invalid("Cannot specify a project when requesting all projects")
	}
	return all, nil
}

// Visible leaves out the URLs of objects in projects that the caller may not see: who
// shares a pool or a network with others need not know their names.
func (r *Request) Visible(urls []string) []string {
	if r.caller.Admin || urls == nil {
		return urls
	}
	out := []string{}
	for _, s := range urls {
		project := entity.DefaultProject
		if u, err := url.Parse(s); err != nil {
			continue
		} else if p := u.Query().Get("project"); p != "" {
			project = p
		}
		if r.caller.CanSee(project) {
			out = append(out, s)
		}
	}
	return out
}

// Filter parses ?filter=.
func (r *Request) Filter() (Filter, error) { return ParseFilter(r.Query("filter")) }

// Decode reads the JSON body into v.
func Decode[T any](r *Request) (T, error) {
	var v T
	b, err := r.body()
	if err != nil {
		return v, err
	}
	return v, unmarshal(b, &v)
}

// DecodeOnto reads the JSON body on top of what v holds: fields that the body
// lacks stay, maps merge by their top-level keys. It is what PATCH means.
func DecodeOnto[T any](r *Request, v *T) error {
	b, err := r.body()
	if err != nil {
		return err
	}
	return unmarshal(b, v)
}

// DecodeFields reads the JSON body as an object and keeps its fields raw, for
// handlers that must tell an absent field from an empty one.
func DecodeFields[T any](r *Request) (T, map[string]json.RawMessage, error) {
	var v T
	b, err := r.body()
	if err != nil {
		return v, nil, err
	}
	if err := unmarshal(b, &v); err != nil {
		return v, nil, err
	}
	var m map[string]json.RawMessage
	return v, m, unmarshal(b, &m)
}

// ReadBody reads a JSON body and keeps it: what decodes it may run again, with the
// transaction that it is part of, or hold a lock. The chain does it for all routes but
// those that stream. The request can be sent on to another member still.
func (r *Request) ReadBody() error {
	if r.read != nil { // what was sent on once can be sent on again
		r.http.Body = io.NopCloser(bytes.NewReader(r.read))
		return nil
	}
	if r.route.Body.Stream { // not limited by the chain
		r.http.Body = http.MaxBytesReader(r.w, r.http.Body, DefaultBodyLimit)
	}
	b, err := io.ReadAll(r.http.Body)
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return errs.TooLarge("The request body is larger than %d bytes", tooBig.Limit)
	case err != nil:
		return errs.Invalid("Cannot read the request body: %v", err)
	}
	r.read, r.http.Body = b, io.NopCloser(bytes.NewReader(b))
	return nil
}

func (r *Request) body() ([]byte, error) {
	if r.read == nil {
		if err := r.ReadBody(); err != nil {
			return nil, err
		}
	}
	if len(bytes.TrimSpace(r.read)) == 0 {
		return nil, errs.Invalid("The request needs a JSON body")
	}
	return r.read, nil
}

func unmarshal(b []byte, v any) error {
	err := json.Unmarshal(b, v)
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &typ) && typ.Field != "":
		return errs.Invalid("Invalid JSON: field %q cannot be a %s", typ.Field, typ.Value)
	case err != nil:
		return errs.Invalid("Invalid JSON: %v", err)
	}
	return nil
}

// CheckETag compares If-Match, when the client sent it, with a subject.
func (r *Request) CheckETag(subject any) error {
	want := strings.Trim(r.Header("If-Match"), `"`)
	if want == "" {
		return nil
	}
	have, err := ETag(subject)
	if err != nil {
		return err
	}
	if have != want {
		return errs.Precondition("ETag doesn't match: %s vs %s", have, want)
	}
	return nil
}

// Upgrade turns the request into a websocket. After it the handler must return Upgraded.
func (r *Request) Upgrade() (*websocket.Conn, error) {
	u := websocket.Upgrader{
		ReadBufferSize: 32 << 10, WriteBufferSize: 32 << 10,
		CheckOrigin: sameOrigin,
		// The chain answers with errors.
		Error: func(http.ResponseWriter, *http.Request, int, error) {},
	}
	if r.http.ProtoMajor > 1 {
		return nil, errs.Invalid("Websockets need HTTP/1.1")
	}
	c, err := u.Upgrade(r.w, r.http, nil)
	if err != nil {
		return nil, errs.Invalid("Websocket upgrade: %v", err)
	}
	return c, nil
}

// Upgrades refuses a request that does not ask for a protocol to go on with.
func (r *Request) Upgrades(protocol string) error {
	if !strings.EqualFold(r.Header("Upgrade"), protocol) {
		return errs.Invalid("Missing or invalid upgrade header")
	}
	if !sameOrigin(r.http) {
		return errs.Forbidden("Pages of other servers may not connect")
	}
	return nil
}

// TakeOver turns the connection into one of another protocol, which the client has to
// ask for. After it the handler must return Upgraded, and owns the connection.
func (r *Request) TakeOver(protocol string) (io.ReadWriteCloser, error) {
	if err := r.Upgrades(protocol); err != nil {
		return nil, err
	}
	conn, rw, err := http.NewResponseController(r.w).Hijack()
	if err != nil {
		return nil, errs.Invalid("The connection cannot be upgraded: %v", err)
	}
	_ = conn.SetDeadline(time.Time{})
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n", protocol); err != nil {
		_ = conn.Close()
		return nil, err
	}
	// What the client sent right behind its request was read already.
	return &taken{Conn: conn, r: rw.Reader}, nil
}

type taken struct {
	net.Conn
	r *bufio.Reader
}

func (t *taken) Read(b []byte) (int, error) { return t.r.Read(b) }

// sameOrigin lets through programs, which send no Origin, and pages of our own.
// Without it any web page could talk to a browser's logged-in session.
func sameOrigin(r *http.Request) bool {
	o := r.Header.Get("Origin")
	if o == "" {
		return true
	}
	u, err := url.Parse(o)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// Context is the context of the HTTP request: it ends when the client goes.
func (r *Request) Context() context.Context { return r.http.Context() }
