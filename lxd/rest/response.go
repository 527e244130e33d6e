package rest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sett/shared/errs"
)

// Response is an answer. The chain writes it.
type Response interface {
	write(w http.ResponseWriter, r *http.Request) error
}

// envelope is the frame of all JSON answers; the order of its fields is part of
// the wire format.
type envelope struct {
	Type       string `json:"type"`
	Status     string `json:"status"`
	StatusCode int    `json:"status_code"`
	Operation  string `json:"operation"`
	ErrorCode  int    `json:"error_code"`
	Error      string `json:"error"`
	Metadata   any    `json:"metadata"`
}

func writeJSON(w http.ResponseWriter, code int, v any, escape bool) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escape)
	if err := e.Encode(v); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(code)
	_, err := w.Write(b.Bytes())
	return err
}

type syncResponse struct {
	metadata any
	code     int
	location string
	etag     any
	headers  map[string]string
}

// Sync answers with metadata.
func Sync(metadata any) Response { return &syncResponse{metadata: metadata, code: http.StatusOK} }

// SyncETag answers with metadata and the ETag of a subject.
func SyncETag(metadata, subject any) Response {
	return &syncResponse{metadata: metadata, code: http.StatusOK, etag: subject}
}

// SyncHeaders answers with metadata and headers of the handler's.
func SyncHeaders(metadata any, headers map[string]string) Response {
	return &syncResponse{metadata: metadata, code: http.StatusOK, headers: headers}
}

// Empty answers that it is done.
func Empty() Response { return Sync(struct{}{}) }

// Created answers that a thing was made, and where it is.
func Created(location string) Response {
	return &syncResponse{code: http.StatusCreated, location: location}
}

func (s *syncResponse) write(w http.ResponseWriter, _ *http.Request) error {
	if s.etag != nil {
		tag, err := ETag(s.etag)
		if err != nil {
			return err
		}
		w.Header().Set("ETag", `"`+tag+`"`)
	}
	if s.location != "" {
		w.Header().Set("Location", s.location)
	}
	for k, v := range s.headers {
		w.Header().Set(k, v)
	}
	return writeJSON(w, s.code, envelope{Type: "sync", Status: "Success", StatusCode: 200, Metadata: s.metadata}, false)
}

// ETag is the hash of a subject, as clients get it in the ETag header.
func ETag(subject any) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(subject); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

type asyncResponse struct {
	url      string
	metadata any
}

// Async answers that an operation has begun: its URL, and what it looks like now.
func Async(url string, operation any) Response { return &asyncResponse{url, operation} }

func (a *asyncResponse) write(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Location", a.url)
	return writeJSON(w, http.StatusAccepted, envelope{
		Type: "async", Status: "Operation created", StatusCode: 100, Operation: a.url, Metadata: a.metadata,
	}, false)
}

// writeError is where kinds of errors become answers.
func writeError(w http.ResponseWriter, err error) {
	code := errs.Status(err)
	text := err.Error()
	if text == "" {
		text = http.StatusText(code)
	}
	h := w.Header()
	for _, k := range []string{"ETag", "Location", "Content-Length", "Content-Disposition"} {
		h.Del(k)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	var b bytes.Buffer
	_ = json.NewEncoder(&b).Encode(envelope{Type: "error", ErrorCode: code, Error: text})
	b.WriteByte('\n') // LXD's errors end with two
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes())
}

type rawResponse func(w http.ResponseWriter, r *http.Request) error

func (f rawResponse) write(w http.ResponseWriter, r *http.Request) error { return f(w, r) }

// Raw answers by a function of the handler's: files, multipart bodies. An error
// that it returns before writing becomes an error answer.
func Raw(f func(w http.ResponseWriter, r *http.Request) error) Response { return rawResponse(f) }

// Upgraded is the answer of a handler that has taken over the connection.
func Upgraded() Response {
	return rawResponse(func(http.ResponseWriter, *http.Request) error { return nil })
}

// URLs makes the list that recursion=0 answers with: prefix is the path under
// which the client asked, project goes along unless it is the default one.
func URLs(prefix, project string, names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		u := strings.TrimSuffix(prefix, "/") + "/" + url.PathEscape(n)
		if project != "" && project != "default" {
			u += "?project=" + url.QueryEscape(project)
		}
		out = append(out, u)
	}
	return out
}
