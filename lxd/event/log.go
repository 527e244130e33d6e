package event

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// LogHandler forwards log records to the bus on their way to another handler.
type LogHandler struct {
	next  slog.Handler
	bus   *Bus
	attrs []slog.Attr
	group string
}

// NewLogHandler wraps a handler.
func NewLogHandler(next slog.Handler, bus *Bus) *LogHandler {
	return &LogHandler{next: next, bus: bus}
}

// Enabled implements slog.Handler. Somebody may listen to levels that the log
// itself does not keep.
func (h *LogHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.next.Enabled(ctx, l) || h.bus.Wants(TypeLogging)
}

// Handle implements slog.Handler.
func (h *LogHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.bus.Wants(TypeLogging) {
		m := map[string]string{}
		add := func(a slog.Attr) bool {
			m[h.group+a.Key] = fmt.Sprint(a.Value.Resolve().Any())
			return true
		}
		for _, a := range h.attrs {
			m[a.Key] = fmt.Sprint(a.Value.Resolve().Any())
		}
		r.Attrs(add)
		level := strings.ToLower(r.Level.String())
		if level == "warn" {
			level = "warning"
		}
		h.bus.Publish(Event{Type: TypeLogging, Timestamp: r.Time, Metadata: Logging{Message: r.Message, Level: level, Context: m}})
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *LogHandler) WithAttrs(as []slog.Attr) slog.Handler {
	n := *h
	n.next = h.next.WithAttrs(as)
	n.attrs = append([]slog.Attr(nil), h.attrs...)
	for _, a := range as {
		a.Key = h.group + a.Key
		n.attrs = append(n.attrs, a)
	}
	return &n
}

// WithGroup implements slog.Handler.
func (h *LogHandler) WithGroup(name string) slog.Handler {
	n := *h
	n.next = h.next.WithGroup(name)
	n.group = h.group + name + "."
	return &n
}
