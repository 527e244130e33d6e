package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"sett/shared/api"
	"sett/shared/errs"
)

// Request is a call of this member's own.
type Request struct {
	Method string
	Path   string // with the query
	// Body is sent as JSON unless it is an io.Reader; nil for none.
	Body any
	// As is on whose behalf the member asks; nil for itself.
	As *Identity
}

// Call asks the member and decodes the metadata of the answer into out, which may be
// nil. An error that the member answers keeps its kind. The context bounds it.
func (t Target) Call(ctx context.Context, r Request, out any) error {
	resp, err := t.Open(ctx, r)
	if err != nil {
		return err
	}
	defer drop(resp.Body)
	var a api.Response
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return t.gone(err)
	}
	if out == nil {
		return nil
	}
	return a.MetadataAsStruct(out)
}

// Open asks the member for what is no envelope: the answer as it is, whose body the
// caller closes. Answers that tell an error have become one.
func (t Target) Open(ctx context.Context, r Request) (*http.Response, error) {
	if t.Alive != nil && !t.Alive() {
		return nil, t.gone(errNotAlive)
	}
	// A member that hangs keeps its connections.
	ctx, done := t.watched(ctx)
	req, err := t.request(ctx, r)
	if err != nil {
		done()
		return nil, err
	}
	resp, err := t.Via.RoundTrip(req)
	if err != nil {
		defer done()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, t.gone(plain(err))
	}
	resp.Body = &watchedBody{resp.Body, ctx, done}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer drop(resp.Body)
	var a api.Response
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || a.Error == "" {
		return nil, t.gone(errs.Internal("%s", resp.Status))
	}
	return nil, errs.FromStatus(resp.StatusCode, a.Error)
}

// watchedBody tells why it broke off, and ends the watch.
type watchedBody struct {
	io.ReadCloser
	ctx  context.Context
	done func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

func (t Target) request(ctx context.Context, r Request) (*http.Request, error) {
	to, err := url.Parse(strings.TrimSuffix(t.URL.String(), "/") + r.Path)
	if err != nil {
		return nil, err
	}
	var body io.Reader
	kind := ""
	switch b := r.Body.(type) {
	case nil:
	case io.Reader:
		body, kind = b, "application/octet-stream"
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		body, kind = bytes.NewReader(text), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, to.String(), body)
	if err != nil {
		return nil, err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if r.As != nil {
		r.As.Mark(req.Header)
	}
	return req, nil
}
