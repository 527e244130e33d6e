package store

import (
	"context"
	"strings"
	"testing"
	"time"

	"sett/lxd/db"
	"sett/shared/errs"
)

const stmtTouched db.Stmt = `SELECT mark FROM nodes_commits`

func TestWritesAreRefusedWhileTheLeaderSaysThatThereIsNoRoom(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	defer mustClose(t, s)
	set(t, s.Global, "a", "1")
	put := func() error {
		return s.Global.Update(t.Context(), func(context.Context, *db.Tx) error {
			t.Error("a transaction was begun")
			return nil
		})
	}
	refused := func() {
		t.Helper()
		if err := put(); !errs.Is(err, errs.KindUnavailable) || err.Error() != "no room" {
			t.Fatalf("%v", err)
		}
		if got := get(t, s.Global, "a"); got != "1" {
			t.Fatalf("read %q", got)
		}
	}
	s.SetMember(1)
	s.SetFull("no room")
	refused()
	// What the node needs to take its room is written all the same.
	if err := s.Global.Touch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if marks, err := db.Select[string](t.Context(), s.Global, stmtTouched); err != nil || len(marks) != 1 {
		t.Errorf("marks %v, %v", marks, err)
	}
	// Who hears no leader any more finds out for itself.
	s.full.Store(&full{"no room", time.Now().Add(-fullFor)})
	set(t, s.Global, "b", "2")
	if err := s.whySilent(); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("%v", err)
	}
	s.SetFull("no room")
	refused()
	s.SetFull("")
	set(t, s.Global, "c", "3")
	if err := s.whySilent(); err != nil {
		t.Errorf("%v", err)
	}
	// A server that stands alone hears of no leader.
	s.SetFull("no room")
	s.SetMember(0)
	set(t, s.Global, "d", "4")
	if err := s.Global.Touch(t.Context()); err != nil {
		t.Error(err)
	}
}
