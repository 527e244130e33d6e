package history_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"sett/lxd/db"
	"sett/lxd/db/node"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/lxd/op/history"
	"sett/shared/api"
	"sett/shared/errs"
)

type world struct {
	t     *testing.T
	dir   string
	local *node.DB
	s     *history.Store
	ops   *op.Manager
	bus   *event.Bus
}

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.begin()
	return w
}

// begin is the start of a daemon. What the one before had not closed is as a kill leaves it.
func (w *world) begin() {
	w.t.Helper()
	was := w.dir
	w.dir = w.t.TempDir()
	if err := os.CopyFS(w.dir, os.DirFS(was)); err != nil {
		w.t.Fatal(err)
	}
	var err error
	if w.local, err = node.Open(w.t.Context(), w.dir, "test", slog.New(slog.DiscardHandler)); err != nil {
		w.t.Fatal(err)
	}
	w.s = history.Open(w.t.Context(), w.local.DB, slog.New(slog.DiscardHandler))
	w.bus = event.NewBus("")
	w.ops = op.New(w.t.Context(), w.bus, "", 0)
	w.ops.Keep(w.s)
	s, local := w.s, w.local
	w.t.Cleanup(func() {
		_ = s.Close(context.Background())
		_ = local.Close()
	})
}

func (w *world) start(s op.Spec) *op.Operation {
	w.t.Helper()
	o, err := w.ops.Start(w.t.Context(), s)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func (w *world) run(s op.Spec) *op.Operation {
	w.t.Helper()
	o := w.start(s)
	<-o.Done()
	return o
}

func (w *world) find(id string) op.Entry {
	w.t.Helper()
	e, err := w.s.Find(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// written waits until a row is there, which nobody waits for outside of tests.
func (w *world) written(id string, want api.StatusCode) {
	w.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		got, err := db.Select[int](w.t.Context(), w.local.DB, stmtStatus, id)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(got) == 1 && got[0] == int(want) {
			return
		}
		<-tick.C
	}
	w.t.Fatalf("operation %s is not in the table as %s", id, want)
}

const stmtStatus db.Stmt = `SELECT status FROM operations_history WHERE id = ?`

func instance(name string) []entity.Ref {
	return []entity.Ref{entity.New(entity.Instance, "web", name)}
}

func TestWhatEndedIsRememberedAcrossRestarts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	by := &event.Requestor{Username: "me", Protocol: "unix", Address: "@"}
	o := w.run(op.Spec{Description: "Copying instance", Project: "web", Resources: instance("c1"), Requestor: by,
		Run: func(ctx context.Context, o *op.Operation) error {
			op.Step(ctx, "copy %d files", 7)
			o.Set(map[string]any{"fs_progress": "50%", "password": "hunter2"})
			return errs.Invalid("The disk is full")
		}})
	if err := w.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.begin()
	e := w.find(o.ID())
	if e.StatusCode != api.Failure || e.Status != "Failure" || e.Err != "The disk is full" || e.Project != "web" || e.Requestor == nil || *e.Requestor != *by ||
		e.EndedAt == nil || len(e.Log) != 1 || e.Log[0].Text != "copy 7 files" || e.Resources["instances"][0] != "/1.0/instances/c1?project=web" && e.Resources["instances"][0] != "/1.0/instances/c1" {
		t.Errorf("got %+v", e)
	}
	if len(e.Metadata) != 1 || e.Metadata["fs_progress"] != "50%" {
		t.Errorf("metadata %v", e.Metadata)
	}
	if len(w.ops.Interrupted()) != 0 {
		t.Error("it counts as interrupted")
	}
	if _, err := w.s.Find(t.Context(), "nobody"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreNotKept(t *testing.T) {
	t.Parallel()
	w := setup(t)
	tok := w.start(op.Spec{Class: op.Token, Description: "Image download token", Secret: "s3cret", Metadata: map[string]any{"secret": "s3cret", "fingerprint": "s3cret"}})
	if w.ops.Token("s3cret", func(*op.Operation) bool { return true }) != tok {
		t.Fatal("the token does not work")
	}
	<-tok.Done()
	ex := w.run(op.Spec{Description: "Executing command", Session: true,
		Metadata: map[string]any{"command": []string{"login", "s3cret"}, "environment": map[string]string{"P": "s3cret"}, "fds": map[string]string{"0": "s3cret"}},
		Run: func(_ context.Context, o *op.Operation) error {
			o.Set(map[string]any{"return": 3})
			return nil
		}})
	for _, o := range []*op.Operation{tok, ex} {
		if text := fmt.Sprintf("%+v", w.find(o.ID())); strings.Contains(text, "s3cret") {
			t.Errorf("%s keeps its secret: %s", o.Description(), text)
		}
	}
	if got := w.find(ex.ID()).Metadata["return"]; got != 3 {
		t.Errorf("the exit status is %v", got)
	}
	if log := w.find(tok.ID()).Log; len(log) != 1 || log[0].Text != "The token was used" {
		t.Errorf("log of the token: %v", log)
	}
	if err := w.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := w.local.Dump(t.Context(), false)
	if err != nil || strings.Contains(text, "s3cret") || strings.Contains(text, ex.ID()) || !strings.Contains(text, tok.ID()) {
		t.Errorf("the database holds (%v) %s", err, text)
	}
}

func TestKilledDaemonFindsWhatWasUnderWay(t *testing.T) {
	t.Parallel()
	w := setup(t)
	run := func(ctx context.Context, _ *op.Operation) error { <-ctx.Done(); return ctx.Err() }
	var os []*op.Operation
	for _, d := range []string{"Creating instance", "Deleting instance", "Starting instance"} {
		o := w.start(op.Spec{Description: d, Project: "web", Resources: instance("c1"), Run: run})
		w.written(o.ID(), api.Running)
		os = append(os, o)
	}
	w.begin()
	cut := w.ops.Interrupted()
	if len(cut) != 3 || cut[0].ID != os[0].ID() || cut[0].Description != "Creating instance" {
		t.Fatalf("interrupted: %+v", cut)
	}
	sub := w.bus.Subscribe(event.Filter{Types: []event.Type{event.TypeOperation}})
	defer sub.Close()
	w.ops.Resolve(os[0].ID(), op.RolledBack("nothing of it is left"))
	w.ops.Resolve(os[1].ID(), op.Finished("the rest was removed"))
	if e := <-sub.C(); e.Project != "web" || e.Metadata.(api.Operation).StatusCode != api.Failure {
		t.Errorf("told %+v", e)
	}
	if err := w.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.begin()
	if cut := w.ops.Interrupted(); len(cut) != 1 || cut[0].ID != os[2].ID() {
		t.Errorf("interrupted: %+v", cut)
	}
	if e := w.find(os[0].ID()); e.StatusCode != api.Failure || !strings.HasPrefix(e.Err, "Rolled back") || !strings.Contains(e.Err, "nothing of it is left") {
		t.Errorf("got %+v", e)
	}
	if e := w.find(os[1].ID()); e.StatusCode != api.Success || e.Err != "" || len(e.Log) != 1 || !strings.HasPrefix(e.Log[0].Text, "Finished") {
		t.Errorf("got %+v", e)
	}
	w.ops.Resolve(os[0].ID(), op.Finished("")) // only once
	if e := w.find(os[0].ID()); e.StatusCode != api.Failure {
		t.Errorf("got %+v", e)
	}
}

func TestTheHistoryIsBounded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	old := time.Now().Add(-history.Longest - time.Hour)
	add := func(id string, at time.Time, session bool) {
		w.s.Ended(op.Entry{Session: session, Operation: api.Operation{ID: id, CreatedAt: at, UpdatedAt: at, EndedAt: &at, StatusCode: api.Success}})
	}
	now := time.Now()
	add("old", old, false)
	for i := range history.Most + 10 {
		add(fmt.Sprintf("%05d", i), now.Add(time.Duration(i)*time.Millisecond), false)
	}
	for i := range history.Sessions + 5 {
		add(fmt.Sprintf("s%05d", i), now.Add(time.Duration(i)*time.Second), true)
	}
	if err := w.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It is looked through now and then, not after each one that ends.
	const slack = 200
	all, err := w.s.List(t.Context())
	if n := len(all) - history.Sessions; err != nil || n < history.Most || n >= history.Most+slack {
		t.Fatalf("%d are remembered beside the sessions (%v)", n, err)
	}
	if e := w.find(fmt.Sprintf("s%05d", history.Sessions+4)); e.ID == "" {
		t.Error("the last session is forgotten")
	}
	if _, err := w.s.Find(t.Context(), "s00000"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("the first session: %v", err)
	}
	if err := w.local.Close(); err != nil {
		t.Fatal(err)
	}
	w.begin()
	all, err = w.s.List(t.Context())
	if err != nil || len(all) != history.Most || all[0].ID != "00010" {
		t.Errorf("the next daemon remembers %d, the oldest is %s (%v)", len(all), all[0].ID, err)
	}
}

// TestNobodyWaitsForTheDatabase: with the database held by somebody else operations begin
// and end all the same, and are written once it is free.
func TestNobodyWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	held, free := make(chan struct{}), make(chan struct{})
	other := make(chan error, 1)
	go func() {
		other <- w.local.Update(context.Background(), func(context.Context, *db.Tx) error {
			close(held)
			<-free
			return nil
		})
	}()
	<-held
	var last *op.Operation
	for range 50 {
		last = w.run(op.Spec{Run: func(context.Context, *op.Operation) error { return nil }})
	}
	if e := w.find(last.ID()); e.StatusCode != api.Success {
		t.Errorf("what waits to be written is not found: %+v", e)
	}
	close(free)
	if err := <-other; err != nil {
		t.Fatal(err)
	}
	w.written(last.ID(), api.Success)
}

// TestListsMissNothingThatIsJustWritten: an operation is in the history from its beginning on,
// also while it goes from memory into the table.
func TestListsMissNothingThatIsJustWritten(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for range 200 {
		o := w.start(op.Spec{Run: func(context.Context, *op.Operation) error { return nil }})
		all, err := w.s.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range all {
			if e.ID == o.ID() {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("operation %s is in a list of %d %d times", o.ID(), len(all), n)
		}
	}
}

const stmtSpoil db.Stmt = `UPDATE operations_history SET resources = '{nonsense', ended_at = NULL`

func TestAHistoryThatCannotBeReadIsBegunAnew(t *testing.T) {
	t.Parallel()
	w := setup(t)
	o := w.run(op.Spec{Description: "Copying instance", Project: "web", Resources: instance("c1"), Run: func(context.Context, *op.Operation) error { return nil }})
	w.written(o.ID(), api.Success)
	err := w.local.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtSpoil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := w.s.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("a history that cannot be read: %v, %v", all, err)
	}
	if err := w.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.begin()
	if all, err := w.s.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after a start: %v, %v", all, err)
	}
	o = w.run(op.Spec{Description: "Copying instance", Project: "web", Resources: instance("c2"), Run: func(context.Context, *op.Operation) error { return nil }})
	w.written(o.ID(), api.Success)
	w.find(o.ID())
}
