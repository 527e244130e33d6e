package op

import (
	"context"
	"crypto/subtle"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/log"
)

// Class is a sort of operation.
type Class string

// The classes. A websocket operation waits for its client to connect; a token
// operation only holds a secret until somebody uses it.
const (
	Task      Class = "task"
	Websocket Class = "websocket"
	Token     Class = "token"
)

// Streams is the connecting side of a websocket operation.
type Streams interface {
	// Connect hands over one connection. upgrade may be called once, after the
	// secret has been found to be right; a wrong secret is a forbidden error.
	Connect(secret string, upgrade func() (*websocket.Conn, error)) error
}

// Spec describes an operation to be started.
type Spec struct {
	Class       Class // empty: Task
	Description string
	Project     string
	Resources   []entity.Ref
	// MoreResources are resources under names of their own, as LXD lists an
	// instance under "containers" too.
	MoreResources map[string][]string
	Metadata      map[string]any
	Requestor     *event.Requestor
	Secret        string // of a token operation
	// Expires is how long a token can be used; 0: until the daemon ends.
	Expires time.Duration

	// Run does the work. It must return soon after its context ends.
	Run func(ctx context.Context, o *Operation) error
	// Streams, for websocket operations.
	Streams Streams
	// Fixed operations cannot be cancelled by clients: what they do cannot stop
	// half-way without harm.
	Fixed bool
	// Session marks the operation of somebody who sits in front of an instance. A
	// shutdown does not wait for it: it ends with the instance.
	Session bool
}

// Manager knows all operations of this member.
type Manager struct {
	bus      *event.Bus
	location string
	member   func() int64
	keep     time.Duration
	ctx      context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup

	journal Journal // nil: nobody keeps what was

	mu  sync.Mutex
	ops map[string]*Operation
	off bool
}

// New makes a manager. Keep is how long finished operations stay visible.
func New(ctx context.Context, bus *event.Bus, location string, keep time.Duration) *Manager {
	ctx, stop := context.WithCancel(ctx)
	return &Manager{bus: bus, location: location, member: func() int64 { return 0 }, keep: keep, ctx: ctx, stop: stop, ops: map[string]*Operation{}}
}

// Follow makes the manager ask for the id of its member, which goes into the ids of
// operations. It is for the time before the first one.
func (m *Manager) Follow(member func() int64) { m.member = member }

// Operation is one operation. Its methods are safe for concurrent use.
type Operation struct {
	m      *Manager
	spec   Spec
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	id       string
	created  time.Time
	updated  time.Time
	status   api.StatusCode
	metadata map[string]any
	err      error
	ended    time.Time
	asked    bool // to be cancelled
	past     int  // parts under way that cannot be taken back
	log      []api.OperationStep
}

// Start begins an operation and returns at once.
func (m *Manager) Start(ctx context.Context, s Spec) (*Operation, error) {
	if s.Class == "" {
		s.Class = Task
	}
	now := time.Now()
	o := &Operation{m: m, spec: s, id: m.newID(), created: now, updated: now,
		status: api.Running, metadata: maps.Clone(s.Metadata), done: make(chan struct{})}
	runCtx, cancel := context.WithCancel(with(log.With(m.ctx, log.From(ctx).With("operation", o.id)), o))
	o.cancel = cancel

	m.mu.Lock()
	if m.off {
		m.mu.Unlock()
		cancel()
		return nil, errs.Unavailable("The daemon is shutting down")
	}
	m.ops[o.id] = o
	m.wg.Add(1)
	m.mu.Unlock()

	if m.journal != nil {
		m.journal.Began(o.entry())
	}
	// Clients expect to see an operation pending before it runs.
	m.publish(o, o.render(api.Pending))
	m.publish(o, o.API())
	go o.run(runCtx)
	return o, nil
}

func (o *Operation) run(ctx context.Context) {
	defer o.m.wg.Done()
	defer o.cancel()
	var err error
	switch {
	case o.spec.Run != nil:
		err = o.guard(ctx)
	default: // a token waits until it is used or cancelled
		if o.spec.Expires > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.spec.Expires)
			defer cancel()
		}
		<-ctx.Done()
		if err = ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
			err = errs.Invalid("The token has expired")
		}
	}
	o.finish(err)
}

// guard turns a panic into a failed operation: one bad request must not take
// every other container's daemon down.
func (o *Operation) guard(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.From(ctx).Error("Panic in an operation", "description", o.spec.Description, "panic", p, "stack", stack())
			err = errs.Internal("Internal error, the log has more under operation %s", o.id)
		}
	}()
	return o.spec.Run(ctx, o)
}

func (o *Operation) finish(err error) {
	o.mu.Lock()
	switch {
	case err == nil:
		o.status = api.Success
	case o.asked:
		// Whatever it says: that is how the work noticed.
		if o.spec.Run != nil && !errors.Is(err, context.Canceled) {
			o.note("Ended with: " + err.Error())
		}
		o.status, o.err = api.Cancelled, errs.Invalid("Operation cancelled")
	case o.m.ctx.Err() != nil && errors.Is(err, context.Canceled):
		o.status, o.err = api.Failure, errs.Unavailable("The daemon was stopped while the operation ran")
	default:
		o.status, o.err = api.Failure, err
	}
	o.updated = time.Now()
	o.ended = o.updated
	o.mu.Unlock()
	if o.m.journal != nil {
		o.m.journal.Ended(o.entry())
	}
	o.m.publish(o, o.API())
	close(o.done)
	time.AfterFunc(o.m.keep, func() {
		o.m.mu.Lock()
		defer o.m.mu.Unlock()
		delete(o.m.ops, o.id)
	})
}

// ID is the operation's UUID.
func (o *Operation) ID() string { return o.id }

// Project is the project in which it runs.
func (o *Operation) Project() string { return o.spec.Project }

// Requestor is who asked for it; nil for the daemon itself.
func (o *Operation) Requestor() *event.Requestor { return o.spec.Requestor }

// URL is where clients find it.
func (o *Operation) URL() string { return entity.New(entity.Operation, "", o.id).Path() }

// Session reports whether it lasts as long as somebody likes.
func (o *Operation) Session() bool { return o.spec.Session }

// Description says what it does.
func (o *Operation) Description() string { return o.spec.Description }

// Done is closed when the operation has ended.
func (o *Operation) Done() <-chan struct{} { return o.done }

// Wait blocks until the operation or the context ends, and returns the
// operation's error, or the context's.
func (o *Operation) Wait(ctx context.Context) error {
	select {
	case <-o.done:
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Err is the error of a finished operation.
func (o *Operation) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Set merges metadata and tells listeners.
func (o *Operation) Set(md map[string]any) {
	o.mu.Lock()
	n := maps.Clone(o.metadata) // rendered copies share the old map
	if n == nil {
		n = map[string]any{}
	}
	maps.Copy(n, md)
	o.metadata, o.updated = n, time.Now()
	o.mu.Unlock()
	o.m.publish(o, o.API())
}

// guards reports whether a secret is that of a token operation.
func (o *Operation) guards(secret string) bool {
	return o.spec.Class == Token && o.spec.Secret != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(o.spec.Secret)) == 1
}

// UseToken ends a token operation whose secret matches; it works once.
func (o *Operation) UseToken(secret string) bool {
	if !o.guards(secret) {
		return false
	}
	o.mu.Lock()
	first := !o.asked && o.status == api.Running
	o.asked = true
	if first {
		o.note("The token was used")
	}
	o.mu.Unlock()
	if first {
		o.cancel()
	}
	return first
}

// mayCancel reports whether clients may cancel it now. o.mu is held.
func (o *Operation) mayCancel() bool {
	return (o.spec.Class == Token || !o.spec.Fixed) && o.past == 0 && !o.status.IsFinal()
}

// Cancel asks the operation to end. It does not wait.
func (o *Operation) Cancel() error {
	o.mu.Lock()
	var err error
	switch {
	case o.status.IsFinal():
		err = errs.Invalid("Only running operations can be cancelled")
	case o.past > 0:
		err = errs.Invalid("This operation can't be cancelled any more: what it does now can't be taken back")
	case !o.mayCancel():
		err = errs.Invalid("This operation can't be cancelled")
	}
	if err != nil {
		o.mu.Unlock()
		return err
	}
	o.asked = true
	if o.spec.Run != nil {
		o.status = api.Cancelling
	}
	o.updated = time.Now()
	o.mu.Unlock()
	o.m.publish(o, o.API())
	o.cancel()
	return nil
}

// Connect hands a websocket to the operation.
func (o *Operation) Connect(secret string, upgrade func() (*websocket.Conn, error)) error {
	if o.spec.Streams == nil {
		return errs.Invalid("This operation has no websocket")
	}
	select {
	case <-o.done:
		return errs.Invalid("The operation has ended")
	default:
	}
	return o.spec.Streams.Connect(secret, upgrade)
}

// API renders the operation as clients see it.
func (o *Operation) API() api.Operation { return o.render(0) }

func (o *Operation) render(as api.StatusCode) api.Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	st := o.status
	if as != 0 {
		st = as
	}
	a := api.Operation{ID: o.id, Class: string(o.spec.Class), Description: o.spec.Description,
		CreatedAt: o.created, UpdatedAt: o.updated, Status: st.String(), StatusCode: st,
		Metadata: o.metadata, MayCancel: o.mayCancel(), Location: o.m.location, Requestor: o.spec.Requestor, Log: slices.Clone(o.log)}
	if !o.ended.IsZero() {
		a.EndedAt = &o.ended
	}
	if a.Location == "" {
		a.Location = o.m.bus.Location()
	}
	if a.Location == "" {
		a.Location = "none"
	}
	if len(o.spec.Resources)+len(o.spec.MoreResources) > 0 {
		a.Resources = maps.Clone(o.spec.MoreResources)
		if a.Resources == nil {
			a.Resources = map[string][]string{}
		}
		for _, r := range o.spec.Resources {
			k := r.Kind.Collection()
			a.Resources[k] = append(a.Resources[k], r.Path())
		}
	}
	if o.err != nil {
		a.Err = o.err.Error()
	}
	return a
}

func (m *Manager) publish(o *Operation, a api.Operation) { m.bus.Publish(o.event(a)) }

func (o *Operation) event(a api.Operation) event.Event {
	a.Log = nil // for those who ask
	return event.Event{Type: event.TypeOperation, Project: o.spec.Project, Metadata: a, By: o.spec.Requestor}
}

// Event tells how the operation stands now, and whether that is its end, for those who
// have not heard what was published.
func (o *Operation) Event() (e event.Event, final bool) {
	a := o.API()
	e = o.event(a)
	e.Timestamp, e.Location = a.UpdatedAt, a.Location
	return e, a.StatusCode.IsFinal()
}

// Get finds an operation.
func (m *Manager) Get(id string) (*Operation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.ops[id]; o != nil {
		return o, nil
	}
	return nil, errs.NotFound("Operation %q not found", id)
}

// List returns all operations, oldest first.
func (m *Manager) List() []*Operation {
	m.mu.Lock()
	out := make([]*Operation, 0, len(m.ops))
	for _, o := range m.ops {
		out = append(out, o)
	}
	m.mu.Unlock()
	sortByAge(out)
	return out
}

// Token finds the token operation that guards something with this secret. match
// looks at its metadata.
func (m *Manager) Token(secret string, match func(o *Operation) bool) *Operation {
	for _, o := range m.List() {
		if o.spec.Class == Token && match(o) && o.UseToken(secret) {
			return o
		}
	}
	return nil
}

// PeekToken is Token for those who only look: the token can still be used.
func (m *Manager) PeekToken(secret string, match func(o *Operation) bool) *Operation {
	for _, o := range m.List() {
		o.mu.Lock()
		open := !o.asked && o.status == api.Running
		o.mu.Unlock()
		if open && match(o) && o.guards(secret) {
			return o
		}
	}
	return nil
}

// Metadata reads one value of the operation's metadata.
func (o *Operation) Metadata(key string) any {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.metadata[key]
}

// Busy lists operations that still run work, for a shutdown that waits for them.
func (m *Manager) Busy() []*Operation {
	var out []*Operation
	for _, o := range m.List() {
		select {
		case <-o.done:
		default:
			if o.spec.Run != nil {
				out = append(out, o)
			}
		}
	}
	return out
}

// Close refuses new operations, cancels those that run and waits for them until
// the context ends.
func (m *Manager) Close(ctx context.Context) error {
	m.mu.Lock()
	m.off = true
	m.mu.Unlock()
	m.stop()
	done := make(chan struct{})
	go func() { m.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errs.Unavailable("%d operations did not end in time", len(m.Busy()))
	}
}

// HasSecret reports whether a secret is the one in the operation's metadata, which
// lets strangers wait for it.
func (o *Operation) HasSecret(secret string) bool {
	want, ok := o.Metadata("secret").(string)
	return ok && want != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(want)) == 1
}
