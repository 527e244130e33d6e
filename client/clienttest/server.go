// Package clienttest is a server of the API for tests: it answers what a test
// told it to, remembers what it was asked, and runs operations to their end.
package clienttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/shared/api"
)

// ETag is the ETag of all objects.
const ETag = "e1"

// Time is when everything happens.
func Time() time.Time { return time.Date(2026, 11, 23, 12, 30, 0, 0, time.UTC) }

// Server answers requests on a unix socket.
type Server struct {
	Socket string
	// Listening gets a value for each client that listens to events, as far as
	// somebody reads it.
	Listening chan struct{}

	mu       sync.Mutex
	answers  map[string]http.HandlerFunc
	requests []string
	ops      map[string]api.Operation
	next     int
	events   []*websocket.Conn
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	// Socket paths are short; the test's own folder may not be.
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	s := Play()
	s.Socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(s)
	_ = srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(func() {
		s.mu.Lock()
		for _, c := range s.events {
			_ = c.Close()
		}
		s.mu.Unlock()
		srv.CloseClientConnections()
		srv.Close()
		_ = os.RemoveAll(dir)
	})
	return s
}

// Play makes a server that listens nowhere: an http.Handler for whoever serves it in
// another way.
func Play() *Server {
	s := &Server{answers: map[string]http.HandlerFunc{}, ops: map[string]api.Operation{}, Listening: make(chan struct{}, 1)}
	s.Sync("GET /1.0", api.Server{ServerUntrusted: api.ServerUntrusted{
		APIExtensions: []string{"api_filtering", "backup_compression_algorithm", "backup_override_name", "container_backup", "container_backup_override_pool", "instances_rebuild", "sett_operation_history", "sett_snapshot_retention", "sett_webui",
			"container_only_migration", "container_incremental_copy", "container_copy_project", "instance_pool_move", "instance_allow_inconsistent_copy"}, APIStatus: "stable", APIVersion: "1.0", Auth: "trusted", AuthMethods: []string{"tls"},
	}})
	return s
}

// Handle answers one request, written as "METHOD /path?query".
func (s *Server) Handle(request string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[request] = h
}

// Sync answers with metadata.
func (s *Server) Sync(request string, metadata any) {
	s.Handle(request, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", ETag)
		reply(w, http.StatusOK, api.ResponseRaw{Type: api.SyncResponse, Status: "Success", StatusCode: 200, Metadata: metadata})
	})
}

// Fail answers with an error.
func (s *Server) Fail(request string, code int, text string) {
	s.Handle(request, func(w http.ResponseWriter, _ *http.Request) { fail(w, code, text) })
}

// Async answers with an operation, which then ends as final tells: an event is
// sent and asking for it returns it. Its id is filled in.
func (s *Server) Async(request string, final api.Operation) {
	s.Handle(request, func(w http.ResponseWriter, _ *http.Request) {
		s.reply(w, s.Start(final))
	})
}

// Start files an operation that ends at once as final tells, and returns how it
// looked when it began.
func (s *Server) Start(final api.Operation) api.Operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	final.ID = opID(s.next)
	if final.Class == "" {
		final.Class = "task"
	}
	if final.StatusCode == 0 {
		final.StatusCode = api.Success
	}
	final.Status, final.CreatedAt, final.UpdatedAt, final.Location = final.StatusCode.String(), Time(), Time(), "none"
	s.ops[final.ID] = final
	first := final
	first.StatusCode, first.Status, first.Err = api.Running, api.Running.String(), ""
	b, _ := json.Marshal(final)
	for _, c := range s.events {
		_ = c.WriteJSON(api.Event{Type: api.EventTypeOperation, Timestamp: Time(), Metadata: b})
	}
	return first
}

func opID(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", n) }

func (s *Server) reply(w http.ResponseWriter, op api.Operation) {
	reply(w, http.StatusAccepted, api.ResponseRaw{
		Type: api.AsyncResponse, Status: api.OperationCreated.String(), StatusCode: int(api.OperationCreated),
		Operation: "/1.0/operations/" + op.ID, Metadata: op,
	})
}

// Reply answers a request with a running operation.
func (s *Server) Reply(w http.ResponseWriter, op api.Operation) { s.reply(w, op) }

// Send sends an event to all who listen.
func (s *Server) Send(e api.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.events {
		_ = c.WriteJSON(e)
	}
}

// Requests returns what was asked since the last call, but for reads: method,
// path and body, and the ETag that was demanded.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests = nil
	return out
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/1.0/events" {
		s.listen(w, r)
		return
	}
	key := r.Method + " " + r.URL.RequestURI()
	s.mu.Lock()
	h, ok := s.answers[key]
	if id, isOp := strings.CutPrefix(r.URL.Path, "/1.0/operations/"); isOp && !ok && r.Method == http.MethodGet {
		if op, known := s.ops[strings.TrimSuffix(id, "/wait")]; known {
			h, ok = func(w http.ResponseWriter, _ *http.Request) {
				reply(w, http.StatusOK, api.ResponseRaw{Type: api.SyncResponse, Status: "Success", StatusCode: 200, Metadata: op})
			}, true
		}
	}
	s.mu.Unlock()
	if r.Method != http.MethodGet {
		b, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(b))
		line := key
		if m := r.Header.Get("If-Match"); m != "" {
			line += " If-Match:" + m
		}
		body := string(b)
		if _, params, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && params["boundary"] != "" {
			body = strings.NewReplacer(params["boundary"], "BOUNDARY", "\r", "").Replace(body)
		}
		if body != "" {
			line += " " + body
		}
		s.mu.Lock()
		s.requests = append(s.requests, strings.TrimSpace(line))
		s.mu.Unlock()
	}
	if !ok {
		fail(w, http.StatusNotFound, "not found")
		return
	}
	h(w, r)
}

func (s *Server) listen(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{}
	s.mu.Lock()
	c, err := up.Upgrade(w, r, nil)
	if err == nil {
		s.events = append(s.events, c)
	}
	s.mu.Unlock()
	if err != nil {
		return
	}
	select {
	case s.Listening <- struct{}{}:
	default:
	}
	for {
		if _, _, err := c.ReadMessage(); err != nil {
			s.mu.Lock()
			for i := range s.events {
				if s.events[i] == c {
					s.events = append(s.events[:i], s.events[i+1:]...)
					break
				}
			}
			s.mu.Unlock()
			_ = c.Close()
			return
		}
	}
}

func reply(w http.ResponseWriter, code int, r api.ResponseRaw) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(r)
}

func fail(w http.ResponseWriter, code int, text string) {
	reply(w, code, api.ResponseRaw{Type: api.ErrorResponse, Code: code, Error: text})
}
