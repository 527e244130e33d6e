package client

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"sett/shared/api"
)

// OperationClient works with the operations of a server.
type OperationClient interface {
	GetOperationUUIDs() ([]string, error)
	GetOperations() ([]api.Operation, error)
	GetOperationsAllProjects() ([]api.Operation, error)
	// GetOperationHistory lists also the operations that have ended (API extension
	// sett_operation_history).
	GetOperationHistory(allProjects bool) ([]api.Operation, error)
	GetOperation(uuid string) (*api.Operation, string, error)
	// GetOperationWait returns when the operation ends or after timeout seconds (-1: never).
	GetOperationWait(uuid string, timeout int) (*api.Operation, string, error)
	GetOperationWaitSecret(uuid, secret string, timeout int) (*api.Operation, string, error)
	GetOperationWebsocket(uuid, secret string) (*websocket.Conn, error)
	DeleteOperation(uuid string) error
}

// Operation is work in the background.
type Operation interface {
	// Get returns what is known by now; Refresh asks the server.
	Get() api.Operation
	Refresh() error
	// Wait returns when the work ended, with its error.
	Wait() error
	WaitContext(ctx context.Context) error
	Cancel() error
	// AddHandler calls function with every change.
	AddHandler(function func(api.Operation)) (*EventTarget, error)
	RemoveHandler(target *EventTarget) error
	// GetWebsocket opens one of the operation's websockets.
	GetWebsocket(secret string) (*websocket.Conn, error)
}

// RemoteOperation is work that may try several servers, one after the other.
type RemoteOperation interface {
	AddHandler(function func(api.Operation)) (*EventTarget, error)
	CancelTarget() error
	GetTarget() (*api.Operation, error)
	Wait() error
}

// GetOperationUUIDs lists the operations.
func (r *ProtocolLXD) GetOperationUUIDs() ([]string, error) {
	byStatus, _, err := fetch[map[string][]string](r, "/1.0/operations")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, urls := range *byStatus {
		for _, u := range urls {
			u, _, _ = strings.Cut(u, "?")
			out = append(out, u[strings.LastIndexByte(u, '/')+1:])
		}
	}
	slices.Sort(out)
	return out, nil
}

// GetOperations lists the operations with all they tell.
func (r *ProtocolLXD) GetOperations() ([]api.Operation, error) {
	return r.operations("")
}

// GetOperationsAllProjects lists the operations of all projects.
func (r *ProtocolLXD) GetOperationsAllProjects() ([]api.Operation, error) {
	return r.operations("&all-projects=true")
}

// GetOperationHistory lists also the operations that have ended.
func (r *ProtocolLXD) GetOperationHistory(allProjects bool) ([]api.Operation, error) {
	if err := r.need("sett_operation_history"); err != nil {
		return nil, err
	}
	if allProjects {
		return r.operations("&history=true&all-projects=true")
	}
	return r.operations("&history=true")
}

func (r *ProtocolLXD) operations(more string) ([]api.Operation, error) {
	byStatus, _, err := fetch[map[string][]api.Operation](r, "/1.0/operations?recursion=1"+more)
	if err != nil {
		return nil, err
	}
	var out []api.Operation
	for _, ops := range *byStatus {
		out = append(out, ops...)
	}
	slices.SortFunc(out, func(a, b api.Operation) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, nil
}

// GetOperation returns an operation.
func (r *ProtocolLXD) GetOperation(uuid string) (*api.Operation, string, error) {
	return fetch[api.Operation](r, path("operations", uuid))
}

// GetOperationWait returns when the operation ends or after timeout seconds (-1: never).
func (r *ProtocolLXD) GetOperationWait(uuid string, timeout int) (*api.Operation, string, error) {
	return fetch[api.Operation](r, path("operations", uuid, "wait")+"?timeout="+itoa(timeout))
}

// GetOperationWaitSecret is GetOperationWait for a caller without trust.
func (r *ProtocolLXD) GetOperationWaitSecret(uuid, secret string, timeout int) (*api.Operation, string, error) {
	return fetch[api.Operation](r, path("operations", uuid, "wait")+"?secret="+url.QueryEscape(secret)+"&timeout="+itoa(timeout))
}

// GetOperationWebsocket opens one of the operation's websockets.
func (r *ProtocolLXD) GetOperationWebsocket(uuid, secret string) (*websocket.Conn, error) {
	p := path("operations", uuid, "websocket")
	if secret != "" {
		p += "?secret=" + url.QueryEscape(secret)
	}
	return r.RawWebsocket(p)
}

// DeleteOperation cancels an operation.
func (r *ProtocolLXD) DeleteOperation(uuid string) error {
	return r.exec(http.MethodDelete, path("operations", uuid), nil, "")
}

// queryOperation sends a request that starts work in the background. It listens
// before it asks, so that the end of short work cannot be missed.
func (r *ProtocolLXD) queryOperation(method, p string, data any, etag string) (Operation, string, error) {
	req, err := r.request(method, p, data, etag)
	if err != nil {
		return nil, "", err
	}
	return r.doOperation(req)
}

func (r *ProtocolLXD) doOperation(req *http.Request) (Operation, string, error) {
	// A caller who may not see events can still wait by asking. Nothing else is listened to:
	// what a server logs, say, would come from all members.
	listener, err := r.listen("/1.0/events?type="+api.EventTypeOperation, "operations of "+r.project)
	// Where nobody can be reached it would take as long once more to find that out.
	if dial := (*net.OpError)(nil); r.sameWay && errors.As(err, &dial) && dial.Op == "dial" {
		return nil, "", &url.Error{Op: req.Method[:1] + strings.ToLower(req.Method[1:]), URL: req.URL.String(), Err: err}
	}
	resp, etag, err := r.do(req)
	if err != nil {
		if listener != nil {
			listener.Disconnect()
		}
		return nil, "", err
	}
	first, err := resp.MetadataAsOperation()
	if err != nil || first.ID == "" {
		if listener != nil {
			listener.Disconnect()
		}
		if err == nil {
			err = errors.New("Server answered without an operation")
		}
		return nil, "", err
	}
	return newOperation(r, listener, *first), etag, nil
}

// operation implements Operation on top of the events websocket.
type operation struct {
	r        *ProtocolLXD
	id       string
	listener *EventListener // nil: wait by asking

	mu       sync.Mutex
	last     api.Operation
	handlers []*opHandler
	done     chan struct{}
	final    bool
}

type opHandler struct {
	target   *EventTarget
	function func(api.Operation)
}

func newOperation(r *ProtocolLXD, l *EventListener, first api.Operation) *operation {
	o := &operation{r: r, id: first.ID, listener: l, last: first, done: make(chan struct{})}
	if l != nil {
		_, _ = l.AddHandler([]string{api.EventTypeOperation}, func(e api.Event) {
			var op api.Operation
			if json.Unmarshal(e.Metadata, &op) == nil && op.ID == first.ID {
				o.update(op)
			}
		})
	}
	o.update(first)
	return o
}

// update takes what the server told, tells the handlers and, at the end, wakes
// those who wait.
func (o *operation) update(op api.Operation) {
	o.mu.Lock()
	if o.final {
		o.mu.Unlock()
		return
	}
	o.last = op
	if op.StatusCode.IsFinal() {
		o.final = true
	}
	final := o.final
	hs := slices.Clone(o.handlers)
	o.mu.Unlock()
	for _, h := range hs {
		h.function(op)
	}
	if final {
		close(o.done)
		if o.listener != nil {
			o.listener.Disconnect()
		}
	}
}

func (o *operation) Get() api.Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

func (o *operation) Refresh() error {
	op, _, err := o.r.GetOperation(o.id)
	if err != nil {
		return err
	}
	o.update(*op)
	return nil
}

func (o *operation) Wait() error { return o.WaitContext(o.r.ctx) }

// lookAgain is how often an operation that is waited for is asked for besides, should its
// server not have told its end. LXD forgets an operation five seconds after it.
const lookAgain = 3 * time.Second

func (o *operation) WaitContext(ctx context.Context) error {
	select {
	case <-o.done:
		return o.result()
	default:
	}
	if o.listener == nil {
		return o.poll(ctx)
	}
	// What happened between the request and its answer came as an event; what
	// ended before we listened is found by asking once.
	if err := o.Refresh(); err != nil && !o.ended() {
		return err
	}
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for {
		select {
		case <-o.done:
			return o.result()
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if err := o.Refresh(); err != nil && !o.ended() {
				return err
			}
		case <-o.listener.done:
			if o.ended() {
				<-o.done
				return o.result()
			}
			// The stream broke, the work may go on: ask to the end.
			return o.poll(ctx)
		}
	}
}

func (o *operation) ended() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.final
}

func (o *operation) poll(ctx context.Context) error {
	v := o.r.view()
	v.ctx = ctx
	op, _, err := v.GetOperationWait(o.id, -1)
	if err != nil {
		return err
	}
	o.update(*op)
	return o.result()
}

func (o *operation) result() error {
	if last := o.Get(); last.Err != "" {
		return errors.New(last.Err)
	}
	return nil
}

func (o *operation) Cancel() error { return o.r.DeleteOperation(o.id) }

func (o *operation) AddHandler(function func(api.Operation)) (*EventTarget, error) {
	if function == nil {
		return nil, errors.New("A handler is needed")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	h := &opHandler{target: &EventTarget{}, function: function}
	o.handlers = append(o.handlers, h)
	return h.target, nil
}

func (o *operation) RemoveHandler(target *EventTarget) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handlers = slices.DeleteFunc(o.handlers, func(h *opHandler) bool { return h.target == target })
	return nil
}

func (o *operation) GetWebsocket(secret string) (*websocket.Conn, error) {
	return o.r.GetOperationWebsocket(o.id, secret)
}

// remoteOperation tries one start after the other until one works out.
type remoteOperation struct {
	mu       sync.Mutex
	target   Operation
	handlers []func(api.Operation)
	done     chan struct{}
	err      error
}

// tryAll runs the starts in order; the first that succeeds ends it.
func tryAll(starts ...func() (Operation, error)) *remoteOperation {
	ro := &remoteOperation{done: make(chan struct{})}
	go func() {
		defer close(ro.done)
		var failures []error
		for _, start := range starts {
			op, err := start()
			if err == nil {
				ro.setTarget(op)
				err = op.Wait()
			}
			if err == nil {
				return
			}
			failures = append(failures, err)
		}
		ro.err = errors.Join(failures...)
	}()
	return ro
}

func (ro *remoteOperation) setTarget(op Operation) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	ro.target = op
	for _, h := range ro.handlers {
		_, _ = op.AddHandler(h)
	}
}

func (ro *remoteOperation) AddHandler(function func(api.Operation)) (*EventTarget, error) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	ro.handlers = append(ro.handlers, function)
	if ro.target != nil {
		return ro.target.AddHandler(function)
	}
	return &EventTarget{}, nil
}

func (ro *remoteOperation) CancelTarget() error {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if ro.target == nil {
		return errors.New("Nothing to cancel yet")
	}
	return ro.target.Cancel()
}

func (ro *remoteOperation) GetTarget() (*api.Operation, error) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if ro.target == nil {
		return nil, errors.New("Nothing was started yet")
	}
	op := ro.target.Get()
	return &op, nil
}

func (ro *remoteOperation) Wait() error {
	<-ro.done
	return ro.err
}
