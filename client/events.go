package client

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/gorilla/websocket"

	"sett/shared/api"
)

// EventClient listens to what happens on a server.
type EventClient interface {
	// GetEvents listens to events of this view's project.
	GetEvents() (*EventListener, error)
	// GetEventsAllProjects listens to events of all projects.
	GetEventsAllProjects() (*EventListener, error)
	// SendEvent puts an event on the server's bus; for cluster members only.
	SendEvent(event api.Event) error
}

// ErrDisconnected is what Wait returns after Disconnect.
var ErrDisconnected = errors.New("Event listener was disconnected")

// EventListener receives events. Listeners of one connection and project share a
// websocket; it is closed when the last one leaves.
type EventListener struct {
	hub  *eventHub
	mu   sync.Mutex
	subs []*EventTarget
	done chan struct{}
	err  error
}

// EventTarget is a registered handler.
type EventTarget struct {
	types    []string
	function func(api.Event)
}

// AddHandler calls function for events of the given types (nil: all). It is
// called from one goroutine, in the order of arrival; events wait while it runs.
func (l *EventListener) AddHandler(types []string, function func(api.Event)) (*EventTarget, error) {
	if function == nil {
		return nil, errors.New("A handler is needed")
	}
	t := &EventTarget{types: types, function: function}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs = append(l.subs, t)
	return t, nil
}

// RemoveHandler stops calling a handler.
func (l *EventListener) RemoveHandler(target *EventTarget) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.subs, target)
	if i < 0 {
		return errors.New("Handler is not registered")
	}
	l.subs = slices.Delete(l.subs, i, i+1)
	return nil
}

// Disconnect stops listening.
func (l *EventListener) Disconnect() { l.hub.leave(l, ErrDisconnected) }

// Wait returns when the server ends the stream or Disconnect was called.
func (l *EventListener) Wait() error {
	<-l.done
	return l.err
}

// IsActive reports whether events still come.
func (l *EventListener) IsActive() bool {
	select {
	case <-l.done:
		return false
	default:
		return true
	}
}

func (l *EventListener) handle(e api.Event) {
	l.mu.Lock()
	subs := slices.Clone(l.subs)
	l.mu.Unlock()
	for _, t := range subs {
		if t.types == nil || slices.Contains(t.types, e.Type) {
			t.function(e)
		}
	}
}

// eventHub is one events websocket and those who listen to it.
type eventHub struct {
	core *core
	key  string
	conn *websocket.Conn

	mu        sync.Mutex
	listeners []*EventListener
	closed    bool
}

// GetEvents listens to events of this view's project.
func (r *ProtocolLXD) GetEvents() (*EventListener, error) {
	p := "/1.0/events"
	return r.listen(p, r.project)
}

// GetEventsAllProjects listens to events of all projects.
func (r *ProtocolLXD) GetEventsAllProjects() (*EventListener, error) {
	return r.listen("/1.0/events?all-projects=true", "*")
}

func (r *ProtocolLXD) listen(p, key string) (*EventListener, error) {
	l := &EventListener{done: make(chan struct{})}
	r.mu.Lock()
	hub := r.hubs[key]
	r.mu.Unlock()
	if hub != nil && hub.join(l) {
		return l, nil
	}
	// The websocket outlives the context of the view that opened it first,
	// since others may share it; the last listener closes it.
	v := r.view()
	v.target = ""
	conn, err := v.RawWebsocket(p)
	if err != nil {
		return nil, err
	}
	hub = &eventHub{core: r.core, key: key, conn: conn}
	hub.join(l)
	r.mu.Lock()
	r.hubs[key] = hub
	r.mu.Unlock()
	go hub.run()
	return l, nil
}

// join adds a listener, unless the hub is closed.
func (h *eventHub) join(l *EventListener) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	l.hub = h
	h.listeners = append(h.listeners, l)
	return true
}

func (h *eventHub) leave(l *EventListener, why error) {
	h.mu.Lock()
	i := slices.Index(h.listeners, l)
	if i < 0 {
		h.mu.Unlock()
		return
	}
	h.listeners = slices.Delete(h.listeners, i, i+1)
	last := len(h.listeners) == 0
	h.mu.Unlock()
	l.err = why
	close(l.done)
	if last {
		h.close(nil)
	}
}

// close ends the websocket and all listeners.
func (h *eventHub) close(why error) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	rest := h.listeners
	h.listeners = nil
	h.mu.Unlock()

	h.core.mu.Lock()
	if h.core.hubs[h.key] == h {
		delete(h.core.hubs, h.key)
	}
	h.core.mu.Unlock()
	_ = h.conn.Close()
	if why == nil {
		why = ErrDisconnected
	}
	for _, l := range rest {
		l.err = why
		close(l.done)
	}
}

// run reads events until the websocket ends; it is the hub's only reader.
func (h *eventHub) run() {
	for {
		_, b, err := h.conn.ReadMessage()
		if err != nil {
			h.close(err)
			return
		}
		var e api.Event
		if json.Unmarshal(b, &e) != nil || e.Type == "" {
			continue
		}
		h.mu.Lock()
		to := slices.Clone(h.listeners)
		h.mu.Unlock()
		for _, l := range to {
			l.handle(e)
		}
	}
}

// SendEvent puts an event on the server's bus; for cluster members only.
func (r *ProtocolLXD) SendEvent(event api.Event) error {
	conn, err := r.RawWebsocket("/1.0/events")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(r.ctx, func() { _ = conn.Close() })
	defer stop()
	return conn.WriteJSON(event)
}
