package event_test

import (
	"log/slog"
	"testing"

	"sett/lxd/entity"
	"sett/lxd/event"
)

func TestFilterKeepsProjectsApart(t *testing.T) {
	t.Parallel()
	b := event.NewBus("")
	s := b.Subscribe(event.Filter{Project: "web", Types: []event.Type{event.TypeLifecycle}})
	defer s.Close()
	b.Lifecycle("instance-created", entity.New(entity.Instance, "db", "c1"), nil, nil)
	b.Publish(event.Event{Type: event.TypeLogging})
	b.Lifecycle("instance-created", entity.New(entity.Instance, "web", "c2"), nil, nil)
	b.Lifecycle("storage-pool-created", entity.New(entity.StoragePool, "", "p"), nil, nil)
	for _, want := range []string{"/1.0/instances/c2?project=web", "/1.0/storage-pools/p"} {
		e := <-s.C()
		if got := e.Metadata.(event.Lifecycle).Source; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if e.Timestamp.IsZero() {
			t.Error("no time")
		}
	}
	if len(s.C()) != 0 {
		t.Errorf("%d events too many", len(s.C()))
	}
}

func TestSlowListenerLosesItsSubscriptionAndBlocksNobody(t *testing.T) {
	t.Parallel()
	b := event.NewBus("")
	slow := b.Subscribe(event.Filter{})
	for range 5000 {
		b.Publish(event.Event{Type: event.TypeLogging})
	}
	n := 0
	for range slow.C() { // ends because the bus closed it
		n++
	}
	if n == 0 || n >= 5000 {
		t.Errorf("got %d events", n)
	}
	slow.Close() // twice is fine
	if b.Wants(event.TypeLogging) {
		t.Error("a closed subscription still counts")
	}
}

func TestLogRecordsReachTheBus(t *testing.T) {
	t.Parallel()
	b := event.NewBus("m1")
	s := b.Subscribe(event.Filter{Types: []event.Type{event.TypeLogging}})
	defer s.Close()
	slog.New(event.NewLogHandler(slog.DiscardHandler, b)).With("a", 1).Warn("Hello", "b", "x")
	e := <-s.C()
	l := e.Metadata.(event.Logging)
	if l.Message != "Hello" || l.Level != "warning" || l.Context["a"] != "1" || l.Context["b"] != "x" || e.Location != "m1" {
		t.Errorf("got %+v", e)
	}
}
