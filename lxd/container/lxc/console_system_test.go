//go:build system

package lxc_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sett/lxd/container"
)

// The size that a viewer sets is the one that the guest's own terminal has.
func TestConsoleSizeReachesTheGuest(t *testing.T) {
	t.Parallel()
	p := start(t, newEngine(t), spec(t, unprivileged, true))
	c, err := p.Console(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Resize(101, 37); err != nil {
		t.Fatal(err)
	}
	expect(t, p, "/bin/busybox stty size </dev/console", "37 101")
}

// A viewer that reads nothing must not hold up the monitor for good, and the log
// does not grow without bounds.
func TestConsoleLogIsBounded(t *testing.T) {
	t.Parallel()
	s := spec(t, unprivileged, true)
	p := start(t, newEngine(t), s)
	ctx := context.Background()
	if code, out := sh(t, p, "seq 100000 >/dev/console; echo the end >/dev/console"); code != 0 {
		t.Fatal(code, out)
	}
	for range 200 {
		b, err := p.ConsoleLog(ctx, false)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "the end") {
			if len(b) > 128<<10 {
				t.Errorf("the log has %d bytes", len(b))
			}
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if err := p.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	b, err := container.ReadConsoleLog(s.ConsoleLog, 1<<30)
	if err != nil || len(b) > 256<<10 || len(b) < 128<<10 || !strings.HasSuffix(strings.TrimSpace(string(b)), "99999\r\n100000\r\nthe end") {
		t.Errorf("the files have %d bytes, %v, and end with %q", len(b), err, b[max(0, len(b)-20):])
	}
	if _, err := p.Console(ctx); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("console of a dead container: %v", err)
	}
}
