package op

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sett/shared/api"
)

type contextKey struct{}

func with(ctx context.Context, o *Operation) context.Context {
	return context.WithValue(ctx, contextKey{}, o)
}

// From is the operation that does the work of a context; nil where there is none.
func From(ctx context.Context) *Operation {
	o, _ := ctx.Value(contextKey{}).(*Operation)
	return o
}

// ID is the id of the operation that does the work of a context, or empty.
func ID(ctx context.Context) string {
	if o := From(ctx); o != nil {
		return o.id
	}
	return ""
}

// Doing says for the owner of a lock what is done, and by which operation: whoever finds
// the lock taken can look at that operation, and cancel it.
func Doing(ctx context.Context, what string) string {
	if id := ID(ctx); id != "" {
		return what + " (operation " + id + ")"
	}
	return what
}

// logLimit bounds the log of one operation. What does the same thing many times notes
// what it has done in all.
const logLimit = 64

// Step notes in the log of the context's operation what is done next. The text must hold
// no secrets: it is kept.
func Step(ctx context.Context, format string, args ...any) {
	if o := From(ctx); o != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.note(fmt.Sprintf(format, args...))
	}
}

// note is Step for those who hold o.mu.
func (o *Operation) note(text string) {
	if len(o.log) == logLimit { // the beginning and the end tell most
		o.log = append(o.log[:logLimit/2:logLimit/2], o.log[logLimit/2+1:]...)
	}
	o.log = append(o.log, api.OperationStep{At: time.Now().UTC(), Text: cut(text)})
}

// textLimit bounds one text that is kept.
const textLimit = 4 << 10

func cut(s string) string {
	if len(s) > textLimit {
		return s[:textLimit] + "..."
	}
	return s
}

// Commit begins a part that must not stop half-way. It fails when the context has ended or
// the operation is to be cancelled: then nothing has begun. Otherwise the context that it
// returns is not ended by a cancel, which is refused until end is called.
func Commit(ctx context.Context) (part context.Context, end func(), err error) {
	if err := ctx.Err(); err != nil {
		return ctx, func() {}, err
	}
	part = context.WithoutCancel(ctx)
	o := From(ctx)
	if o == nil {
		return part, func() {}, nil
	}
	o.mu.Lock()
	if o.asked && o.past == 0 {
		o.mu.Unlock()
		return ctx, func() {}, context.Canceled
	}
	return part, o.goPast(), nil
}

// Insist is Commit for what follows from something done before, such as bringing up again
// what was stopped: it begins also when the operation was cancelled meanwhile.
func Insist(ctx context.Context) (part context.Context, end func()) {
	part = context.WithoutCancel(ctx)
	o := From(ctx)
	if o == nil {
		return part, func() {}
	}
	o.mu.Lock()
	return part, o.goPast()
}

// goPast begins a part that cannot be taken back. o.mu is held, and given back.
func (o *Operation) goPast() (end func()) {
	o.past++
	o.mu.Unlock()
	o.m.publish(o, o.API())
	return sync.OnceFunc(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.past--
	})
}
