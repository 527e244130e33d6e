package daemontest_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

func TestLogsAreReadAndDeleted(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	dir := filepath.Join(s.Dir, "logs", "c1")
	s.Must(os.MkdirAll(dir, 0o700))
	for _, n := range []string{"lxc.log", "exec_1.stdout", "other"} {
		s.Must(os.WriteFile(filepath.Join(dir, n), []byte(n), 0o600))
	}
	told := make(chan api.EventLifecycle, 16)
	l, err := s.GetEvents()
	s.Must(err)
	defer l.Disconnect()
	_, err = l.AddHandler([]string{api.EventTypeLifecycle}, func(e api.Event) {
		var m api.EventLifecycle
		if json.Unmarshal(e.Metadata, &m) == nil {
			told <- m
		}
	})
	s.Must(err)
	if names, err := s.GetInstanceLogfiles("c1"); err != nil || !slices.Equal(names, []string{"exec_1.stdout", "lxc.log"}) {
		t.Errorf("logs %v, %v", names, err)
	}
	f, err := s.GetInstanceLogfile("c1", "lxc.log")
	s.Must(err)
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "lxc.log" {
		t.Errorf("got %q, %v", b, err)
	}
	s.Must(s.DeleteInstanceLogfile("c1", "exec_1.stdout"))
	for name, want := range map[string]int{"lxc.log": 400, "other": 400, "exec_1.stdout": 404} {
		if err := s.DeleteInstanceLogfile("c1", name); status(err) != want {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if _, err := s.GetInstanceLogfile("c1", "exec_2.stdout"); status(err) != 404 {
		t.Errorf("one that is not there: %v", err)
	}
	for _, want := range []struct{ action, source string }{
		{"instance-log-retrieved", "/1.0/instances/c1/logs/lxc.log"}, {"instance-log-deleted", "/1.0/instances/c1/logs/exec_1.stdout"},
	} {
		select {
		case e := <-told:
			if e.Action != want.action || e.Source != want.source || e.Requestor == nil {
				t.Errorf("told %+v, want %+v", e, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nobody told of %s", want.action)
		}
	}
}
