// Package log carries a structured logger in a context.
//
//	log.From(ctx).Info("Started instance", "ref", ref)
package log

import (
	"context"
	"log/slog"
)

type key struct{}

// With returns a context whose logger is l.
func With(ctx context.Context, l *slog.Logger) context.Context {
	return context.WithValue(ctx, key{}, l)
}

// From returns the context's logger, or the process's default one.
func From(ctx context.Context) *slog.Logger {
	if l, ok := ctx.Value(key{}).(*slog.Logger); ok {
		return l
	}
	return slog.Default()
}
