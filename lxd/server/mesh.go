package server

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/event"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/keypair"
	"sett/shared/log"
)

// Every member listens to every other one, over a connection that stays, and puts what
// it hears on its own bus, where its clients find it. Nothing is passed on a second
// time, so there are no loops.
//
//	listener                         member
//	GET /internal/events  --------->
//	                      <---------  101, from when on nothing is missed
//	                      <---------  each operation as it stands, those that ended lately too
//	{"types": [...]}      --------->  what clients here want; at first operations and lifecycle
//	                      <---------  one event a line
//
// A client that waits for the end of an operation must hear of it even when the member
// that ran it is gone: when that cannot be reached for a while, what it ran has failed.
// Such a client listens first and then asks how the operation stands; what it asks goes
// to a member only once that is listened to, or it could miss the end (see Heard).

const (
	meshProtocol = "sett-events"
	// meshDial bounds one attempt to reach a member.
	meshDial = 3 * time.Second
	// meshGone is how long a member may be out of reach before its operations count as
	// failed.
	meshGone = 5 * time.Second
	// meshPatience is how long a client that begins to listen waits for members that are
	// being dialled.
	meshPatience = 500 * time.Millisecond
	// meshHeard is how long a question about an operation waits for a member that should
	// be listened to and is not.
	meshHeard = 3 * time.Second
	meshWrite = 5 * time.Second
	meshPause = 100 * time.Millisecond // before the first new attempt
)

// heard is an event on its way between members.
type heard struct {
	Type      event.Type       `json:"type"`
	Timestamp time.Time        `json:"timestamp"`
	Location  string           `json:"location"`
	Project   string           `json:"project,omitempty"`
	By        *event.Requestor `json:"by,omitempty"`
	Metadata  json.RawMessage  `json:"metadata"`
}

// demand is what a listener wants.
type demand struct {
	Types []event.Type `json:"types"`
}

// always are the types that members send each other without being asked: whoever begins
// to wait for an operation has no time to ask first.
func always() []event.Type { return []event.Type{event.TypeOperation, event.TypeLifecycle} }

// mesh is what a member hears from the others.
type mesh struct {
	mu      sync.Mutex
	dialing int             // streams that are being dialled for the first time
	idle    chan struct{}   // closed when there are none
	up      map[string]bool // by the members' addresses
	turned  chan struct{}   // closed, and replaced, when a stream has come up or could not
	wg      sync.WaitGroup
}

// turn notes whether a member is listened to.
func (m *mesh) turn(address string, up bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if up {
		if m.up == nil {
			m.up = map[string]bool{}
		}
		m.up[address] = true
	} else {
		delete(m.up, address)
	}
	if m.turned != nil {
		close(m.turned)
		m.turned = nil
	}
}

func (m *mesh) hears(address string) (up bool, turned <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.turned == nil {
		m.turned = make(chan struct{})
	}
	return m.up[address], m.turned
}

// Heard waits until another member is listened to: what happens to its operations from
// then on comes to the clients here. One that has joined a moment ago is not yet, nor is
// one whose stream broke. It gives up on a member that is out of reach, and after a while
// in any case.
func (s *Service) Heard(ctx context.Context, m cluster.Member) {
	t := time.NewTimer(meshHeard)
	defer t.Stop()
	for {
		up, turned := s.mesh.hears(m.Address)
		if up || !s.relay.Reachable(m) {
			return
		}
		select {
		case <-turned:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (m *mesh) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dialing++; m.dialing == 1 {
		m.idle = make(chan struct{})
	}
}

func (m *mesh) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dialing--; m.dialing == 0 {
		close(m.idle)
	}
}

// settled returns when no member is being dialled for the first time, or soon.
func (m *mesh) settled(ctx context.Context) {
	m.mu.Lock()
	idle := m.idle
	m.mu.Unlock()
	if idle == nil {
		return
	}
	t := time.NewTimer(meshPatience)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	case <-ctx.Done():
	}
}

// Listen hears the other members until the context ends, whoever they are. It returns
// at once; Close waits for the end.
func (s *Service) Listen(all context.Context) {
	// By address: a member that is renamed, or has a new certificate, is the same one.
	running := map[string]context.CancelFunc{}
	look := func() {
		now := s.relay.Peers()
		for a, stop := range running {
			if !slices.ContainsFunc(now, func(p cluster.Peer) bool { return p.Address == a }) {
				stop()
				delete(running, a)
			}
		}
		for _, p := range now {
			if running[p.Address] != nil {
				continue
			}
			ctx, stop := context.WithCancel(all)
			running[p.Address] = stop
			s.mesh.begin()
			s.mesh.wg.Go(func() { s.hear(all, ctx, p) })
		}
	}
	turned := s.relay.Here().Turned()
	look()
	s.mesh.wg.Go(func() {
		for {
			select {
			case <-all.Done():
				for _, stop := range running {
					stop()
				}
				return
			case <-turned:
				turned = s.relay.Here().Turned() // first, so that no change is missed
				look()
			}
		}
	})
}

// Close waits until nobody is listened to any more.
func (s *Service) Close() { s.mesh.wg.Wait() }

// hear listens to one member, again and again. all ends with the daemon, ctx also when
// the member is one no more.
func (s *Service) hear(all, ctx context.Context, p cluster.Peer) {
	runs := &running{ops: map[string]heard{}}
	settled := sync.OnceFunc(s.mesh.end)
	defer settled()
	lost, pause := time.Now(), meshPause
	for ctx.Err() == nil {
		to := s.relay.To(cluster.Member{Name: p.Name, Address: p.Address})
		to.Alive = nil // a stream that comes up is a sign of life itself
		up := false
		err := s.hearOnce(ctx, to, runs, func() {
			up = true
			s.relay.Found(p.Address)
			s.mesh.turn(p.Address, true)
			settled()
			log.From(ctx).Debug("Listening to a member", "member", p.Name)
		})
		settled()
		if !up && ctx.Err() == nil {
			s.relay.Lost(p.Address)
		}
		s.mesh.turn(p.Address, false)
		if ctx.Err() != nil {
			break
		}
		if up {
			lost, pause = time.Now(), meshPause
		}
		log.From(ctx).Debug("Not listening to a member", "member", p.Name, "err", err)
		if time.Since(lost) > meshGone {
			s.fail(p.Name, runs)
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
		case <-t.C:
		}
		pause = min(2*pause, time.Second)
	}
	if all.Err() == nil {
		s.fail(p.Name, runs)
	}
}

// hearOnce listens over one connection until that ends.
func (s *Service) hearOnce(ctx context.Context, to relay.Target, runs *running, up func()) error {
	// The dial is bounded, the stream is not.
	dial, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(meshDial, cancel)
	req, err := http.NewRequestWithContext(dial, http.MethodGet, to.URL.String()+eventsPath, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", meshProtocol)
	resp, err := to.Via.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		return errs.Unavailable("Cluster member %q does not let itself be heard: %s", to.Name, resp.Status)
	}
	if !timer.Stop() {
		return dial.Err()
	}
	up()
	// What happened while nobody listened.
	s.catchUp(ctx, to, runs)

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { // ends the reading when the context ends
		<-dial.Done()
		_ = conn.Close()
	})
	wg.Go(func() {
		if s.sayDemand(dial, conn) != nil {
			_ = conn.Close()
		}
	})
	dec := json.NewDecoder(bufio.NewReaderSize(conn, 32<<10))
	for {
		var h heard
		if err := dec.Decode(&h); err != nil {
			return err
		}
		s.hearEvent(h, runs)
	}
}

// sayDemand tells the member what clients here want, whenever that changes.
func (s *Service) sayDemand(ctx context.Context, w io.Writer) error {
	said := always()
	for {
		want, changed := s.bus.Demand()
		for _, t := range always() {
			if !slices.Contains(want, t) {
				want = append(want, t)
			}
		}
		slices.Sort(want)
		if !slices.Equal(want, said) {
			b, err := json.Marshal(demand{want})
			if err != nil {
				return err
			}
			if _, err := w.Write(append(b, '\n')); err != nil {
				return err
			}
			said = want
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// running are the operations of a member that have not ended, as it told of them last.
type running struct {
	mu  sync.Mutex
	ops map[string]heard
}

// hearEvent puts an event of another member on the bus of this one.
func (s *Service) hearEvent(h heard, runs *running) {
	if h.Type == event.TypeOperation {
		var o api.Operation
		if json.Unmarshal(h.Metadata, &o) == nil && o.ID != "" {
			runs.mu.Lock()
			if o.StatusCode.IsFinal() {
				delete(runs.ops, o.ID)
			} else {
				runs.ops[o.ID] = h
			}
			runs.mu.Unlock()
		}
	}
	s.bus.Publish(event.Event{Type: h.Type, Timestamp: h.Timestamp, Location: h.Location, Project: h.Project, By: h.By, Metadata: h.Metadata, Remote: true})
}

// catchUp tells how the operations stand whose member was out of reach for a while.
// Those that it does not know any more have ended, it cannot be said how.
func (s *Service) catchUp(ctx context.Context, to relay.Target, runs *running) {
	runs.mu.Lock()
	missed := make(map[string]heard, len(runs.ops))
	for id, h := range runs.ops {
		missed[id] = h
	}
	runs.mu.Unlock()
	for id, h := range missed {
		ctx, cancel := context.WithTimeout(ctx, meshDial)
		var o json.RawMessage
		err := to.Call(ctx, relay.Request{Method: http.MethodGet, Path: "/1.0/operations/" + url.PathEscape(id)}, &o)
		cancel()
		switch {
		case err == nil:
			h.Metadata = o
			s.hearEvent(h, runs)
		case errs.Is(err, errs.KindNotFound):
			s.failOne(h, "The outcome is not known: the cluster member was out of reach when the operation ended", runs)
		}
	}
}

// fail ends the operations of a member that is gone, for those who wait for them.
func (s *Service) fail(name string, runs *running) {
	runs.mu.Lock()
	lost := make([]heard, 0, len(runs.ops))
	for _, h := range runs.ops {
		lost = append(lost, h)
	}
	runs.mu.Unlock()
	for _, h := range lost {
		s.failOne(h, "Cluster member \""+name+"\", which ran the operation, does not answer", runs)
	}
}

func (s *Service) failOne(h heard, why string, runs *running) {
	var o api.Operation
	if json.Unmarshal(h.Metadata, &o) != nil {
		return
	}
	o.StatusCode, o.Status, o.Err, o.UpdatedAt = api.Failure, api.Failure.String(), why, time.Now()
	b, err := json.Marshal(o)
	if err != nil {
		return
	}
	h.Metadata, h.Timestamp = b, o.UpdatedAt
	s.hearEvent(h, runs)
}

// handleMesh lets another member listen.
func (s *Service) handleMesh(ctx context.Context, r *rest.Request) (rest.Response, error) {
	if r.Header("Upgrade") != meshProtocol {
		return nil, errs.Invalid("Members listen over a connection upgraded to %q", meshProtocol)
	}
	return rest.Raw(func(w http.ResponseWriter, hr *http.Request) error {
		// Listening begins before the other side knows, so that it misses nothing.
		sub := s.bus.Subscribe(event.Filter{Types: always(), AllProjects: true, Local: true})
		defer sub.Close()
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return errs.Invalid("This connection cannot be upgraded: %v", err)
		}
		defer conn.Close()
		if t := hr.TLS; t != nil && len(t.PeerCertificates) > 0 {
			done, ok := s.relay.Track(keypair.Fingerprint(t.PeerCertificates[0]), conn)
			if !ok { // it was removed a moment ago
				return nil
			}
			defer done()
		}
		_ = conn.SetDeadline(time.Time{})
		if _, err := rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + meshProtocol + "\r\n\r\n"); err != nil {
			return nil
		}
		if rw.Flush() != nil {
			return nil
		}
		over, err := s.tellAll(conn)
		if err != nil {
			return nil
		}
		wants := make(chan []event.Type)
		go func() {
			defer close(wants)
			dec := json.NewDecoder(rw)
			for {
				var d demand
				if dec.Decode(&d) != nil {
					return
				}
				select {
				case wants <- d.Types:
				case <-ctx.Done():
					return
				}
			}
		}()
		for {
			select {
			case e, ok := <-sub.C():
				if !ok {
					return nil
				}
				if o, is := e.Metadata.(api.Operation); is && over[o.ID] {
					continue // its end was told, and this came before it
				}
				if tell(conn, e) != nil {
					return nil
				}
			case types, ok := <-wants:
				if !ok {
					return nil
				}
				sub.Want(types...)
			case <-ctx.Done():
				return nil
			}
		}
	}), nil
}

// tellAll tells how all operations of this member stand, for who has not listened so
// far, and returns which of them have ended.
func (s *Service) tellAll(conn net.Conn) (over map[string]bool, err error) {
	over = map[string]bool{}
	for _, o := range s.ops.List() {
		e, final := o.Event()
		if final {
			over[o.ID()] = true
		}
		if err := tell(conn, e); err != nil {
			return nil, err
		}
	}
	return over, nil
}

func tell(conn net.Conn, e event.Event) error {
	md, err := json.Marshal(e.Metadata)
	if err != nil {
		return err
	}
	b, err := json.Marshal(heard{Type: e.Type, Timestamp: e.Timestamp, Location: e.Location, Project: e.Project, By: e.By, Metadata: md})
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(meshWrite))
	_, err = conn.Write(append(b, '\n'))
	return err
}
