//go:build system

package lxc_test

import (
	"context"
	"testing"
	"time"

	"sett/lxd/container"
)

func BenchmarkStartKill(b *testing.B) {
	e := newEngine(b)
	s := spec(b, unprivileged, true)
	ctx := context.Background()
	var up, down time.Duration
	for b.Loop() {
		t0 := time.Now()
		p, err := e.Start(ctx, s)
		if err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := p.Kill(ctx); err != nil {
			b.Fatal(err)
		}
		up += t1.Sub(t0)
		down += time.Since(t1)
	}
	b.ReportMetric(float64(up.Microseconds())/float64(b.N)/1000, "ms/start")
	b.ReportMetric(float64(down.Microseconds())/float64(b.N)/1000, "ms/kill")
}

func BenchmarkExec(b *testing.B) {
	e := newEngine(b)
	ctx := context.Background()
	p := start(b, e, spec(b, unprivileged, true))
	for b.Loop() {
		x, err := p.Exec(ctx, container.ExecSpec{Command: []string{"/bin/true"}})
		if err != nil {
			b.Fatal(err)
		}
		if code, err := x.Wait(ctx); err != nil || code != 0 {
			b.Fatal(code, err)
		}
	}
}
