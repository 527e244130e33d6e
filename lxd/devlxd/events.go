package devlxd

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/config"
	"sett/lxd/instance"
	"sett/shared/errs"
)

// Types of events.
const (
	typeConfig = "config"
	typeDevice = "device"
)

// message is one event, as guests get it.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Metadata  any       `json:"metadata"`
}

type configChange struct {
	Key   string `json:"key"`
	Old   string `json:"old_value"`
	Value string `json:"value"`
}

type deviceChange struct {
	Name   string            `json:"name"`
	Action string            `json:"action"` // "added", "removed", "updated"
	Config map[string]string `json:"config"`
}

// hub hands events to the streams of each guest.
type hub struct {
	mu   sync.Mutex
	subs map[int64]map[*stream]struct{}
}

// stream is one guest that listens. A guest that does not read loses its stream.
type stream struct {
	types []string
	c     chan message
}

const backlog = 256

func (h *hub) add(id int64, s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[int64]map[*stream]struct{}{}
	}
	if h.subs[id] == nil {
		h.subs[id] = map[*stream]struct{}{}
	}
	h.subs[id][s] = struct{}{}
}

func (h *hub) remove(id int64, s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(id, s)
}

func (h *hub) drop(id int64, s *stream) {
	if _, ok := h.subs[id][s]; !ok {
		return
	}
	close(s.c)
	if delete(h.subs[id], s); len(h.subs[id]) == 0 {
		delete(h.subs, id)
	}
}

// clear ends all streams of a guest.
func (h *hub) clear(id int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs[id] {
		h.drop(id, s)
	}
}

func (h *hub) listens(id int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs[id]) > 0
}

func (h *hub) publish(id int64, m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs[id] {
		if !slices.Contains(s.types, m.Type) {
			continue
		}
		select {
		case s.c <- m:
		default:
			h.drop(id, s)
		}
	}
}

// Changed implements instance.Watcher.
func (s *Service) Changed(old, new *instance.Instance) {
	s.seen.forget(new.ID)
	if !instance.GuestAPI.Get(new.ExpandedConfig()) {
		s.hub.clear(new.ID) // it was there when they began
		return
	}
	if !s.hub.listens(new.ID) {
		return
	}
	now := time.Now().UTC()
	was, is := old.ExpandedConfig(), new.ExpandedConfig()
	for _, k := range slices.Sorted(slices.Values(config.Changed(was, is))) {
		if visible(k) {
			s.hub.publish(new.ID, message{typeConfig, now, configChange{k, was[k], is[k]}})
		}
	}
	had, has := devices(old), devices(new)
	all := maps.Clone(had)
	maps.Copy(all, has)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := deviceChange{Name: name, Config: all[name]}
		switch {
		case had[name] == nil:
			c.Action = "added"
		case has[name] == nil:
			c.Action = "removed"
		case !maps.Equal(old.ExpandedDevices()[name], new.ExpandedDevices()[name]):
			c.Action = "updated"
		default:
			continue
		}
		s.hub.publish(new.ID, message{typeDevice, now, c})
	}
}

// events streams what changes, to a websocket or as lines of JSON.
func (s *Service) events(w http.ResponseWriter, r *http.Request, i *instance.Instance) error {
	st := &stream{types: []string{typeConfig, typeDevice}, c: make(chan message, backlog)}
	if v := r.URL.Query().Get("type"); v != "" {
		st.types = strings.Split(v, ",")
	}
	for _, t := range st.types {
		if t != typeConfig && t != typeDevice {
			return errs.Invalid("%q isn't a supported event type", t)
		}
	}
	// Before the answer: what happens after it must not be missed.
	s.hub.add(i.ID, st)
	defer s.hub.remove(i.ID, st)
	s.wg.Add(1)
	defer s.wg.Done()
	if websocket.IsWebSocketUpgrade(r) {
		return s.socket(w, r, st)
	}
	return s.lines(w, r, st)
}

const (
	writeTime = 10 * time.Second
	pingEvery = 30 * time.Second
)

func (s *Service) socket(w http.ResponseWriter, r *http.Request, st *stream) error {
	// Programs in the guest send no Origin, or any.
	u := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	c, err := u.Upgrade(w, r, nil)
	if err != nil {
		return nil // it has answered
	}
	defer c.Close()
	gone := make(chan struct{})
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer close(gone)
		c.SetReadLimit(4 << 10)
		for {
			if _, _, err := c.NextReader(); err != nil {
				return
			}
		}
	}()
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case m, ok := <-st.c:
			if !ok {
				return nil
			}
			_ = c.SetWriteDeadline(time.Now().Add(writeTime))
			if c.WriteJSON(m) != nil {
				return nil
			}
		case <-ping.C:
			if c.WriteControl(websocket.PingMessage, []byte("keepalive"), time.Now().Add(writeTime)) != nil {
				return nil
			}
		case <-gone:
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
}

func (s *Service) lines(w http.ResponseWriter, r *http.Request, st *stream) error {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil {
		return nil
	}
	e := json.NewEncoder(w)
	for {
		select {
		case m, ok := <-st.c:
			_ = rc.SetWriteDeadline(time.Now().Add(writeTime))
			if !ok || e.Encode(m) != nil || rc.Flush() != nil {
				return nil
			}
		case <-r.Context().Done():
			return nil
		}
	}
}
