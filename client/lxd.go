package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gorilla/websocket"

	"sett/shared/api"
)

// ProtocolLXD is a connection to a server of the LXD API, seen from one project,
// one cluster member and one context. Views share the connection below.
type ProtocolLXD struct {
	*core
	ctx     context.Context
	project string
	target  string
}

var (
	_ InstanceServer = (*ProtocolLXD)(nil)
	_ ImageServer    = (*ProtocolLXD)(nil)
)

// core is what all views of a connection share.
type core struct {
	base        string
	socketPath  string
	certificate string
	userAgent   string
	http        *http.Client
	dialer      websocket.Dialer
	sameWay     bool // websockets are dialled as requests are
	log         *slog.Logger

	anybody atomic.Bool // strangers' answers will do

	mu     sync.Mutex
	server *api.Server          // last answer of GET /1.0
	hubs   map[string]*eventHub // by what the stream shows
}

func (r *ProtocolLXD) view() *ProtocolLXD {
	v := *r
	return &v
}

// UseProject returns a view that works in another project.
func (r *ProtocolLXD) UseProject(name string) InstanceServer {
	v := r.view()
	v.project = name
	return v
}

// UseTarget returns a view whose requests name a cluster member.
func (r *ProtocolLXD) UseTarget(name string) InstanceServer {
	v := r.view()
	v.target = name
	return v
}

// WithContext returns a view whose requests end with ctx.
func (r *ProtocolLXD) WithContext(ctx context.Context) InstanceServer {
	v := r.view()
	v.ctx = ctx
	return v
}

// GetConnectionInfo tells whom one talks to.
func (r *ProtocolLXD) GetConnectionInfo() (*ConnectionInfo, error) {
	info := &ConnectionInfo{
		Certificate: r.certificate, Protocol: "lxd", URL: r.base, SocketPath: r.socketPath,
		Project: r.project, Target: r.target,
	}
	if info.Project == "" {
		info.Project = api.ProjectDefaultName
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		if info.Certificate == "" {
			info.Certificate = r.server.Environment.Certificate
		}
		for _, a := range r.server.Environment.Addresses {
			if !strings.HasPrefix(a, ":") {
				info.Addresses = append(info.Addresses, "https://"+a)
			}
		}
	}
	if r.socketPath == "" {
		info.Addresses = append([]string{r.base}, without(info.Addresses, r.base)...)
	}
	return info, nil
}

func without(list []string, s string) []string {
	var out []string
	for _, e := range list {
		if e != s {
			out = append(out, e)
		}
	}
	return out
}

// GetHTTPClient returns the HTTP client of the connection.
func (r *ProtocolLXD) GetHTTPClient() (*http.Client, error) { return r.http, nil }

// Disconnect ends event streams and closes idle connections.
func (r *ProtocolLXD) Disconnect() {
	r.mu.Lock()
	hubs := r.hubs
	r.hubs = map[string]*eventHub{}
	r.mu.Unlock()
	for _, h := range hubs {
		h.close(nil)
	}
	r.http.CloseIdleConnections()
}

// path builds a path from its elements; each is escaped.
func path(elements ...string) string {
	var b strings.Builder
	b.WriteString("/1.0")
	for _, e := range elements {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(e))
	}
	return b.String()
}

// url adds project and target to a path that does not name them itself.
func (r *ProtocolLXD) url(p string) (string, error) {
	u, err := url.Parse(r.base + p)
	if err != nil {
		return "", err
	}
	q := u.Query()
	if r.project != "" && !q.Has("project") && !q.Has("all-projects") {
		q.Set("project", r.project)
	}
	if r.target != "" && !q.Has("target") {
		q.Set("target", r.target)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// request builds a request; data may be nil, an io.Reader (sent as it is) or
// anything that marshals to JSON.
func (r *ProtocolLXD) request(method, p string, data any, etag string) (*http.Request, error) {
	u, err := r.url(p)
	if err != nil {
		return nil, err
	}
	var body io.Reader
	kind := ""
	switch d := data.(type) {
	case nil:
	case io.Reader:
		body, kind = d, "application/octet-stream"
	default:
		b, err := json.Marshal(d)
		if err != nil {
			return nil, err
		}
		body, kind = bytes.NewReader(b), "application/json"
	}
	req, err := http.NewRequestWithContext(r.ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if etag != "" {
		req.Header.Set("If-Match", etag)
	}
	req.Header.Set("User-Agent", r.userAgent)
	// Asks the server to refuse instead of showing the public face, should it
	// have lost our certificate. Whoever asks to be trusted is not yet.
	if !r.core.anybody.Load() && !(method == http.MethodPost && p == path("certificates")) {
		req.Header.Set("X-LXD-authenticated", "true")
	}
	return req, nil
}

// do sends a request whose answer is an envelope.
func (r *ProtocolLXD) do(req *http.Request) (*api.Response, string, error) {
	r.log.Debug("Sending request", "method", req.Method, "url", req.URL.String(), "etag", req.Header.Get("If-Match"))
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	out, etag, err := envelope(resp)
	if out != nil {
		r.log.Debug("Got answer", "type", out.Type, "code", resp.StatusCode, "metadata", string(out.Metadata))
	}
	return out, etag, err
}

// envelope reads an answer; errors inside it become api.StatusError.
func envelope(resp *http.Response) (*api.Response, string, error) {
	etag := resp.Header.Get("ETag")
	var out api.Response
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		if resp.StatusCode >= http.StatusBadRequest {
			return nil, "", api.StatusErrorf(resp.StatusCode, fmt.Sprintf("Failed to fetch %s: %s", resp.Request.URL, resp.Status))
		}
		return nil, "", fmt.Errorf("Answer of %s is not understood: %w", resp.Request.URL.Path, err)
	}
	if out.Type == api.ErrorResponse {
		return &out, "", api.StatusErrorf(out.Code, out.Error)
	}
	return &out, etag, nil
}

func (r *ProtocolLXD) query(method, p string, data any, etag string) (*api.Response, string, error) {
	req, err := r.request(method, p, data, etag)
	if err != nil {
		return nil, "", err
	}
	return r.do(req)
}

// exec sends a request whose answer holds nothing of interest.
func (r *ProtocolLXD) exec(method, p string, data any, etag string) error {
	_, _, err := r.query(method, p, data, etag)
	return err
}

// fetch gets one object and its ETag.
func fetch[T any](r *ProtocolLXD, p string) (*T, string, error) {
	resp, etag, err := r.query(http.MethodGet, p, nil, "")
	if err != nil {
		return nil, "", err
	}
	var out T
	if err := resp.MetadataAsStruct(&out); err != nil {
		return nil, "", err
	}
	return &out, etag, nil
}

// list gets a list of objects.
func list[T any](r *ProtocolLXD, p string) ([]T, error) {
	out, _, err := fetch[[]T](r, p)
	if err != nil {
		return nil, err
	}
	return *out, nil
}

// names gets a list of URLs and returns what stands in them behind prefix.
func names(r *ProtocolLXD, p, prefix string) ([]string, error) {
	urls, err := list[string](r, p)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(urls))
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("Server lists %q, which is no URL: %w", s, err)
		}
		name, ok := strings.CutPrefix(u.EscapedPath(), prefix+"/")
		if !ok {
			return nil, fmt.Errorf("Server lists %q below %q", s, prefix)
		}
		name, err = url.PathUnescape(name)
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, nil
}

// stream gets a raw body. The caller closes it.
func (r *ProtocolLXD) stream(p string) (io.ReadCloser, *http.Response, error) {
	req, err := r.request(http.MethodGet, p, nil, "")
	if err != nil {
		return nil, nil, err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }()
		_, _, err := envelope(resp)
		if err == nil {
			err = api.StatusErrorf(resp.StatusCode, "")
		}
		return nil, nil, err
	}
	return resp.Body, resp, nil
}

// RawQuery sends a request of any path and returns the envelope and its ETag.
func (r *ProtocolLXD) RawQuery(method, p string, data any, etag string) (*api.Response, string, error) {
	return r.query(method, p, data, etag)
}

// GetETag returns the current ETag of an object.
func (r *ProtocolLXD) GetETag(p string) (string, error) {
	_, etag, err := r.query(http.MethodGet, p, nil, "")
	return etag, err
}

// RawOperation is RawQuery for requests that start work in the background.
func (r *ProtocolLXD) RawOperation(method, p string, data any, etag string) (Operation, string, error) {
	return r.queryOperation(method, p, data, etag)
}

// RawWebsocket opens a websocket at any path.
func (r *ProtocolLXD) RawWebsocket(p string) (*websocket.Conn, error) {
	u, err := r.url(p)
	if err != nil {
		return nil, err
	}
	r.log.Debug("Opening websocket", "url", u)
	h := http.Header{}
	h.Set("User-Agent", r.userAgent)
	conn, resp, err := r.dialer.DialContext(r.ctx, "ws"+strings.TrimPrefix(u, "http"), h)
	if err != nil {
		if resp != nil && resp.StatusCode >= http.StatusBadRequest {
			defer func() { _ = resp.Body.Close() }()
			if _, _, aerr := envelope(resp); aerr != nil {
				return nil, aerr
			}
		}
		return nil, err
	}
	return conn, nil
}
