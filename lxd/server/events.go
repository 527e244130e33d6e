package server

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

const pingEvery = 10 * time.Second

// handleEvents sends events until the client goes. There is one writer to the
// websocket, this one.
func (s *Service) handleEvents(ctx context.Context, r *rest.Request) (rest.Response, error) {
	all, err := r.AllProjects()
	if err != nil {
		return nil, err
	}
	caller := r.Caller()
	if all && !caller.Admin {
		return nil, errs.Forbidden("not authorized")
	}
	f := event.Filter{Project: r.Project().Name, AllProjects: all}
	allowed := event.Types()
	if !caller.Admin {
		allowed = []event.Type{event.TypeOperation, event.TypeLifecycle}
	}
	f.Types = allowed
	if v := r.Query("type"); v != "" {
		f.Types = nil
		for _, t := range strings.Split(v, ",") {
			t := event.Type(t)
			if !slices.Contains(event.Types(), t) {
				return nil, errs.Invalid("%q isn't a supported event type", t)
			}
			if !slices.Contains(allowed, t) {
				return nil, errs.Forbidden("not authorized")
			}
			f.Types = append(f.Types, t)
		}
	}
	// Listening begins before the client knows, so that it misses nothing.
	sub := s.bus.Subscribe(f)
	defer sub.Close()
	if !r.Alone() {
		s.mesh.settled(ctx)
	}
	conn, err := r.Upgrade()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	}()
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case e, ok := <-sub.C():
			if !ok {
				return rest.Upgraded(), nil
			}
			// What happens in no project is not for restricted callers, unless they do it.
			if !caller.Admin && e.Project == "" && !(e.Type == event.TypeOperation && caller.Is(e.By)) {
				continue
			}
			if err := send(conn, e); err != nil {
				return rest.Upgraded(), nil
			}
		case <-ping.C:
			if conn.WriteControl(websocket.PingMessage, []byte("keepalive"), time.Now().Add(5*time.Second)) != nil {
				return rest.Upgraded(), nil
			}
		case <-gone:
			return rest.Upgraded(), nil
		case <-ctx.Done():
			return rest.Upgraded(), nil
		}
	}
}

func send(conn *websocket.Conn, e event.Event) error {
	md, err := json.Marshal(e.Metadata)
	if err != nil {
		return err
	}
	project := e.Project
	if project == "" && e.Type == event.TypeLifecycle {
		project = entity.DefaultProject // LXD tells of what is in no project as of what is in this one
	}
	b, err := json.Marshal(api.Event{Type: string(e.Type), Timestamp: e.Timestamp, Metadata: md, Location: e.Location, Project: project})
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	return conn.WriteMessage(websocket.TextMessage, b)
}
