package fake_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"

	"sett/lxd/container"
	"sett/lxd/container/containertest"
	"sett/lxd/container/fake"
)

func TestFakePassesTheSuite(t *testing.T) {
	t.Parallel()
	e := fake.New()
	var n atomic.Int64
	containertest.Run(t, func(t *testing.T) (container.Engine, container.Spec) {
		id := container.ID{Daemon: "test", Project: "default", Name: "c" + strconv.FormatInt(n.Add(1), 10)}
		return e, container.Spec{ID: id, RunDir: t.TempDir(), Rootfs: container.Rootfs{Path: t.TempDir()}}
	})
}

func TestFaultsHitTheirStepOnce(t *testing.T) {
	t.Parallel()
	e, ctx := fake.New(), context.Background()
	bad := errors.New("no space")
	e.Fail(fake.Start, nil, bad)
	id := container.ID{Daemon: "d", Project: "p", Name: "c"}
	p, err := e.Start(ctx, container.Spec{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(ctx, container.Spec{ID: id}); !errors.Is(err, bad) {
		t.Fatalf("got %v", err)
	}
	if e.Guest(id) != nil {
		t.Fatal("a failed start left a container")
	}
}

func TestGuestEndsItself(t *testing.T) {
	t.Parallel()
	e, ctx := fake.New(), context.Background()
	id := container.ID{Daemon: "d", Project: "p", Name: "c"}
	p, err := e.Start(ctx, container.Spec{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	e.Guest(id).Reboot()
	if x, err := p.Wait(ctx); err != nil || !x.Reboot {
		t.Fatalf("exit %+v, %v", x, err)
	}
}
