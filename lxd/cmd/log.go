package cmd

import (
	"context"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"sync"
)

// logFile is a file that can be opened again under its name, after logrotate has
// moved it away.
type logFile struct {
	path string
	mu   sync.Mutex
	f    *os.File
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	return l, l.reopen()
}

func (l *logFile) reopen() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.f
	l.f = f
	l.mu.Unlock()
	if old == nil {
		return nil
	}
	return old.Close()
}

// Write implements io.Writer.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(b)
}

// level is the least that is logged.
func (g globals) level() slog.Level {
	switch {
	case g.debug, len(g.trace) > 0:
		return slog.LevelDebug
	case g.verbose:
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// logging makes the log of the daemon. Of several places one may fail, such as a
// full disk, without taking the line from the others.
func (e *env) logging() (slog.Handler, *logFile, error) {
	o := &slog.HandlerOptions{Level: e.g.level(), ReplaceAttr: levelNames}
	all := []slog.Handler{slog.NewTextHandler(e.err, o)}
	var file *logFile
	if e.g.logFile != "" {
		var err error
		if file, err = openLog(e.g.logFile); err != nil {
			return nil, nil, err
		}
		all = append(all, slog.NewTextHandler(file, o))
	}
	if e.g.syslog {
		w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "lxd")
		if err != nil {
			return nil, nil, err
		}
		all = append(all, newSyslog(w, o))
	}
	return slog.NewMultiHandler(all...), file, nil
}

// levelNames writes levels as LXD's log does, for those who search it.
func levelNames(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 || a.Key != slog.LevelKey {
		return a
	}
	l, ok := a.Value.Any().(slog.Level)
	if !ok {
		return a
	}
	switch {
	case l >= slog.LevelError:
		return slog.String(a.Key, "error")
	case l >= slog.LevelWarn:
		return slog.String(a.Key, "warning")
	case l >= slog.LevelInfo:
		return slog.String(a.Key, "info")
	}
	return slog.String(a.Key, "debug")
}

// syslogHandler has a text handler for each severity, whose lines go out with it.
type syslogHandler struct{ err, warning, info, debug slog.Handler }

func newSyslog(w *syslog.Writer, o *slog.HandlerOptions) *syslogHandler {
	// syslog notes the time by itself, and the severity.
	o = &slog.HandlerOptions{Level: o.Level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}}
	to := func(f func(string) error) slog.Handler { return slog.NewTextHandler(lines(f), o) }
	return &syslogHandler{to(w.Err), to(w.Warning), to(w.Info), to(w.Debug)}
}

// lines turns a function that takes a line into a writer of lines.
type lines func(string) error

// Write implements io.Writer.
func (f lines) Write(b []byte) (int, error) {
	if err := f(string(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (h *syslogHandler) of(l slog.Level) slog.Handler {
	switch {
	case l >= slog.LevelError:
		return h.err
	case l >= slog.LevelWarn:
		return h.warning
	case l >= slog.LevelInfo:
		return h.info
	}
	return h.debug
}

// Enabled implements slog.Handler.
func (h *syslogHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.of(l).Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h *syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.of(r.Level).Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *syslogHandler) WithAttrs(as []slog.Attr) slog.Handler {
	return h.each(func(n slog.Handler) slog.Handler { return n.WithAttrs(as) })
}

// WithGroup implements slog.Handler.
func (h *syslogHandler) WithGroup(name string) slog.Handler {
	return h.each(func(n slog.Handler) slog.Handler { return n.WithGroup(name) })
}

func (h *syslogHandler) each(f func(slog.Handler) slog.Handler) slog.Handler {
	return &syslogHandler{f(h.err), f(h.warning), f(h.info), f(h.debug)}
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

var _ io.WriteCloser = (*logFile)(nil)
