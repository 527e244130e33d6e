package containertest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"sett/lxd/container"
)

// console opens a console, of which the last viewer may be leaving still.
func console(t *testing.T, ctx context.Context, p container.Process) container.Terminal {
	t.Helper()
	for {
		c, err := p.Console(ctx)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		if !errors.Is(err, container.ErrConsoleBusy) {
			t.Fatalf("console: %v", err)
		}
		select {
		case <-ctx.Done():
			t.Fatal("the console does not become free")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// typed writes a line, which the terminal shows whatever else happens.
func typed(t *testing.T, c container.Terminal, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatalf("write to the console: %v", err)
	}
	var got strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(got.String(), line) {
		n, err := c.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("the console shows %q and then: %v", got.String(), err)
		}
	}
}

// logged waits for a log that holds all of these.
func logged(t *testing.T, ctx context.Context, p container.Process, want ...string) {
	t.Helper()
	for {
		b, err := p.ConsoleLog(ctx, false)
		if err != nil {
			t.Fatalf("log: %v", err)
		}
		missing := false
		for _, w := range want {
			missing = missing || !strings.Contains(string(b), w)
		}
		if !missing {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the log is %q", b)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func testConsole(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	c := console(t, ctx, p)
	if err := c.Resize(101, 37); err != nil {
		t.Errorf("resize: %v", err)
	}
	typed(t, c, "first viewer")
	if _, err := p.Console(ctx); !errors.Is(err, container.ErrConsoleBusy) {
		t.Errorf("a second viewer: %v", err)
	}
	typed(t, c, "still there") // the second one did it no harm
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	want(t, "state", state(t, ctx, p), container.Running)
	c = console(t, ctx, p)
	typed(t, c, "next viewer")
	logged(t, ctx, p, "first viewer", "still there", "next viewer")
	logged(t, ctx, p, "first viewer") // reading takes nothing away
	if _, err := p.ConsoleLog(ctx, true); err != nil {
		t.Errorf("clear: %v", err)
	}
	if b, err := p.ConsoleLog(ctx, false); err != nil || strings.Contains(string(b), "viewer") {
		t.Errorf("after clearing: %q, %v", b, err)
	}
	if err := p.Kill(ctx); err != nil {
		t.Fatalf("kill: %v", err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the console of a dead container: %v", err)
	}
	if _, err := p.ConsoleLog(ctx, false); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("log of a dead container: %v", err)
	}
}

func testConsoleAdopted(t *testing.T, setup Setup) {
	ctx, e, spec, p := started(t, setup)
	c := console(t, ctx, p)
	typed(t, c, "before")
	_ = p.Close()
	_ = c.Close()
	q, err := e.Find(ctx, spec.ID, spec.RunDir)
	if err != nil {
		t.Fatalf("find: %v", err)
	}
	typed(t, console(t, ctx, q), "after")
	logged(t, ctx, q, "before", "after")
	if err := q.Kill(ctx); err != nil {
		t.Errorf("kill: %v", err)
	}
}
