package op_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
)

func manager(t *testing.T) (*op.Manager, *event.Subscription) {
	t.Helper()
	bus := event.NewBus("")
	s := bus.Subscribe(event.Filter{Types: []event.Type{event.TypeOperation}})
	t.Cleanup(s.Close)
	return op.New(t.Context(), bus, "", time.Minute), s
}

func start(t *testing.T, m *op.Manager, s op.Spec) *op.Operation {
	t.Helper()
	o, err := m.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestLifeOfAnOperation(t *testing.T) {
	t.Parallel()
	m, sub := manager(t)
	o := start(t, m, op.Spec{Description: "Creating instance", Project: "web",
		Resources: []entity.Ref{entity.New(entity.Instance, "web", "c1")},
		Run: func(_ context.Context, o *op.Operation) error {
			o.Set(map[string]any{"progress": "50%"})
			return nil
		}})
	if err := o.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var seen []api.StatusCode
	for len(seen) == 0 || !seen[len(seen)-1].IsFinal() {
		e := <-sub.C()
		if e.Project != "web" {
			t.Errorf("project %q", e.Project)
		}
		seen = append(seen, e.Metadata.(api.Operation).StatusCode)
	}
	want := []api.StatusCode{api.Pending, api.Running, api.Running, api.Success}
	for i := range want {
		if i >= len(seen) || seen[i] != want[i] {
			t.Fatalf("saw %v", seen)
		}
	}
	a := o.API()
	if a.Status != "Success" || a.Class != "task" || a.Location != "none" || a.Metadata["progress"] != "50%" ||
		len(a.Resources["instances"]) != 1 || a.Resources["instances"][0] != "/1.0/instances/c1" {
		t.Errorf("got %+v", a)
	}
}

func TestFailureKeepsItsError(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	boom := errs.Conflict("There is one already")
	o := start(t, m, op.Spec{Run: func(context.Context, *op.Operation) error { return boom }})
	if err := o.Wait(t.Context()); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if a := o.API(); a.Status != "Failure" || a.StatusCode != api.Failure || a.Err != boom.Error() {
		t.Errorf("got %+v", a)
	}
}

func TestCancelEndsTheContext(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	o := start(t, m, op.Spec{Run: func(ctx context.Context, _ *op.Operation) error { <-ctx.Done(); return ctx.Err() }})
	if err := o.Cancel(); err != nil {
		t.Fatal(err)
	}
	<-o.Done()
	if a := o.API(); a.StatusCode != api.Cancelled {
		t.Errorf("got %+v", a)
	}
	if o.Cancel() == nil {
		t.Error("a finished operation was cancelled")
	}
}

func TestFixedOperationsRefuseToBeCancelled(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	goOn := make(chan struct{})
	o := start(t, m, op.Spec{Fixed: true, Run: func(context.Context, *op.Operation) error { <-goOn; return nil }})
	if errs.Status(o.Cancel()) != 400 {
		t.Error("cancelled")
	}
	close(goOn)
	if err := o.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPanicFailsTheOperationOnly(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	o := start(t, m, op.Spec{Run: func(context.Context, *op.Operation) error { panic("ouch") }})
	if err := o.Wait(t.Context()); errs.Status(err) != 500 {
		t.Errorf("got %v", err)
	}
}

func TestTokensWorkOnce(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	o := start(t, m, op.Spec{Class: op.Token, Secret: "s3cret", Metadata: map[string]any{"fingerprint": "abc"}})
	match := func(o *op.Operation) bool { return o.Metadata("fingerprint") == "abc" }
	if m.Token("wrong", match) != nil {
		t.Error("a wrong secret was taken")
	}
	if m.PeekToken("wrong", match) != nil || m.PeekToken("s3cret", match) != o || m.PeekToken("s3cret", match) != o {
		t.Error("a look did not show it, or used it up")
	}
	if m.Token("s3cret", match) != o {
		t.Error("the right secret was refused")
	}
	if m.Token("s3cret", match) != nil {
		t.Error("the secret was taken twice")
	}
	if m.PeekToken("s3cret", match) != nil {
		t.Error("a used token was shown")
	}
	<-o.Done()
}

func TestTokensExpire(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	o := start(t, m, op.Spec{Class: op.Token, Secret: "s3cret", Expires: time.Millisecond})
	if err := o.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v", err)
	}
	if m.Token("s3cret", func(*op.Operation) bool { return true }) != nil {
		t.Error("an expired token was taken")
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	goOn := make(chan struct{})
	defer close(goOn)
	o := start(t, m, op.Spec{Run: func(context.Context, *op.Operation) error { <-goOn; return nil }})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCloseCancelsWaitsAndRefuses(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	o := start(t, m, op.Spec{Run: func(ctx context.Context, _ *op.Operation) error { <-ctx.Done(); return ctx.Err() }})
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-o.Done():
	default:
		t.Error("still running")
	}
	if _, err := m.Start(t.Context(), op.Spec{Run: func(context.Context, *op.Operation) error { return nil }}); errs.Status(err) != 503 {
		t.Errorf("got %v", err)
	}
}

func TestFinishedOperationsVanish(t *testing.T) {
	t.Parallel()
	m := op.New(t.Context(), event.NewBus(""), "", 0)
	o, err := m.Start(t.Context(), op.Spec{Run: func(context.Context, *op.Operation) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	<-o.Done()
	for range 1000 {
		if _, err := m.Get(o.ID()); err != nil {
			return
		}
		<-time.After(time.Millisecond)
	}
	t.Error("still there")
}

func TestPartsThatCannotBeTakenBackRefuseACancel(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	in, out := make(chan struct{}), make(chan struct{})
	o := start(t, m, op.Spec{Run: func(ctx context.Context, o *op.Operation) error {
		if op.From(ctx) != o || op.ID(ctx) != o.ID() || op.Doing(ctx, "stop") != "stop (operation "+o.ID()+")" {
			t.Error("the context does not know its operation")
		}
		part, end, err := op.Commit(ctx)
		if err != nil {
			return err
		}
		close(in)
		<-out
		if err := part.Err(); err != nil {
			t.Error(err)
		}
		_, inner, err := op.Commit(part)
		if err != nil {
			t.Errorf("a part of a part: %v", err)
		}
		inner()
		end()
		<-ctx.Done()
		if _, _, err := op.Commit(context.WithoutCancel(ctx)); !errors.Is(err, context.Canceled) {
			t.Errorf("a part began after the cancel: %v", err)
		}
		late, end := op.Insist(ctx)
		defer end()
		return errors.Join(ctx.Err(), late.Err())
	}})
	<-in
	if a := o.API(); a.MayCancel {
		t.Error("it says that it can be cancelled")
	}
	if err := o.Cancel(); errs.Status(err) != 400 {
		t.Errorf("got %v", err)
	}
	close(out)
	for o.Cancel() != nil { // until the part has ended
		<-time.After(time.Millisecond)
	}
	<-o.Done()
	if a := o.API(); a.StatusCode != api.Cancelled || a.EndedAt == nil || a.MayCancel {
		t.Errorf("got %+v", a)
	}
	if part, end, err := op.Commit(t.Context()); err != nil || part.Err() != nil {
		t.Errorf("without an operation: %v", err)
	} else {
		end()
	}
}

func TestTheLogOfAnOperationIsBounded(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	o := start(t, m, op.Spec{Run: func(ctx context.Context, _ *op.Operation) error {
		for i := range 1000 {
			op.Step(ctx, "step %d", i)
		}
		return nil
	}})
	<-o.Done()
	log := o.API().Log
	if len(log) != 64 || log[0].Text != "step 0" || log[63].Text != "step 999" {
		t.Errorf("%d lines, from %v to %v", len(log), log[0], log[len(log)-1])
	}
}

func TestOperationsOfADaemonThatIsStoppedSaySo(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	o := start(t, m, op.Spec{Run: func(ctx context.Context, _ *op.Operation) error { <-ctx.Done(); return ctx.Err() }})
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := o.API(); a.StatusCode != api.Failure || !strings.Contains(a.Err, "daemon was stopped") {
		t.Errorf("got %+v", a)
	}
}
