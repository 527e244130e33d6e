package daemon_test

import (
	"strings"
	"testing"

	"sett/lxd/daemon"
	"sett/lxd/daemontest"
	"sett/shared/api"
)

func running(t *testing.T, config map[string]string) *daemontest.Server {
	t.Helper()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	op, err := s.CreateInstance(api.InstancesPost{Name: "c1", InstancePut: api.InstancePut{Config: config},
		Source: api.InstanceSource{Type: "image", Alias: "tiny"}})
	s.Wait(op, err)
	s.SetState("c1", "start")
	return s
}

// endless begins a stop that the guest never follows.
func endless(t *testing.T, s *daemontest.Server) {
	t.Helper()
	s.Engine.Guest(s.Engine.Running()[0]).IgnoreShutdown()
	_, err := s.UpdateInstanceState("c1", api.InstanceStatePut{Action: "stop", Timeout: -1}, "")
	s.Must(err)
}

func TestShutdownIsNotHeldUpByAnEndlessStop(t *testing.T) {
	t.Parallel()
	s := running(t, map[string]string{"boot.host_shutdown_timeout": "0"})
	srv, etag, err := s.GetServer()
	s.Must(err)
	put := srv.Writable()
	put.Config = map[string]any{"core.shutdown_timeout": "0"}
	s.Must(s.UpdateServer(put, etag))
	endless(t, s)
	if code, a := s.Do("PUT", "/internal/shutdown", nil); code != 200 {
		t.Errorf("shutdown: %d %s", code, a.Error)
	}
	<-s.Daemon.Stopped()
	if ids := s.Engine.Running(); len(ids) > 0 {
		t.Errorf("%v still run", ids)
	}
	if reasons, err := daemon.WakeReasons(s.Dir); err != nil || len(reasons) != 1 {
		t.Errorf("it ran before, so it starts at boot: %q, %v", reasons, err)
	}
}

func TestSecondShutdownHurriesTheFirst(t *testing.T) {
	t.Parallel()
	s := running(t, nil)
	endless(t, s)
	first := s.Daemon.Stop(true, false) // waits five minutes for the stop
	if code, a := s.Do("POST", "/1.0/profiles", api.ProfilesPost{Name: "x"}); code != 503 || !strings.Contains(a.Error, "shutting down") {
		t.Errorf("a change while it goes down: %d %s", code, a.Error)
	}
	if code, a := s.Do("PUT", "/internal/shutdown?force=true", nil); code != 200 {
		t.Errorf("second shutdown: %d %s", code, a.Error)
	}
	<-first
	<-s.Daemon.Stopped()
	if ids := s.Engine.Running(); len(ids) > 0 {
		t.Errorf("%v still run", ids)
	}
}
