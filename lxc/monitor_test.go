package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"sett/client/clienttest"
	"sett/shared/api"
)

// watch runs "lxc monitor" with args, sends events and returns the first n lines
// that it printed.
func watch(t *testing.T, args []string, n int, events ...api.Event) []string {
	t.Helper()
	s := clienttest.New(t)
	conf := t.TempDir()
	writeConf(t, conf, s.Socket)
	r, w := io.Pipe()
	app := newApp()
	app.In, app.Out, app.Err = strings.NewReader(""), w, io.Discard
	app.Getenv = func(key string) string {
		return map[string]string{"LXD_CONF": conf, "LXD_GLOBAL_CONF": conf, "LXD_SOCKET": s.Socket}[key]
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		ended <- app.Run(ctx, append([]string{"monitor"}, args...))
		_ = w.Close()
	}()
	// Events may arrive before the handler is there; they are sent until enough
	// was printed.
	<-s.Listening
	enough := make(chan struct{})
	go func() {
		for {
			select {
			case <-enough:
				return
			default:
			}
			for _, e := range events {
				s.Send(e)
			}
		}
	}()
	var lines []string
	in := bufio.NewScanner(r)
	for len(lines) < n && in.Scan() {
		lines = append(lines, in.Text())
	}
	close(enough)
	cancel()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d", code)
	}
	return lines
}

func event(t *testing.T, kind string, payload any) api.Event {
	t.Helper()
	b, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	return api.Event{Type: kind, Timestamp: clienttest.Time(), Metadata: b, Location: "none", Project: "default"}
}

func TestMonitorShowsEvents(t *testing.T) {
	t.Parallel()
	created := event(t, api.EventTypeLifecycle, api.EventLifecycle{
		Action: "instance-created", Source: "/1.0/instances/c1", Requestor: &api.EventLifecycleRequestor{Username: "root", Protocol: "unix", Address: "@"},
	})
	debug := event(t, api.EventTypeLogging, api.EventLogging{Level: "debug", Message: "Not shown"})
	warn := event(t, api.EventTypeLogging, api.EventLogging{Level: "warn", Message: "Disk is full", Context: map[string]string{"pool": "default", "free": "0 B"}})
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"yaml": {[]string{"--type", "lifecycle"}, []string{
			"location: none", "metadata:", "  action: instance-created", "  requestor:", "    address: '@'", "    protocol: unix",
			"    username: root", "  source: /1.0/instances/c1", "project: default", `timestamp: "2026-11-23T12:30:00Z"`, "type: lifecycle", "", "",
		}},
		"json": {[]string{"-f", "json", "--type", "lifecycle"}, []string{
			`{"location":"none","metadata":{"action":"instance-created","requestor":{"address":"@","protocol":"unix","username":"root"},"source":"/1.0/instances/c1"},"project":"default","timestamp":"2026-11-23T12:30:00Z","type":"lifecycle"}`, "",
		}},
		"pretty": {[]string{"--pretty", "--type", "lifecycle"}, []string{
			`time="2026-11-23T12:30:00Z" level=info msg="Action: instance-created, Source: /1.0/instances/c1, Requestor: unix/root (@)"`,
		}},
		"log level": {[]string{"--pretty", "--type", "logging", "--loglevel", "info"}, []string{
			`time="2026-11-23T12:30:00Z" level=warning msg="Disk is full" free="0 B" pool=default`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := watch(t, c.args, len(c.want), debug, created, warn)
			if g, w := strings.Join(got, "\n"), strings.Join(c.want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
		})
	}
}
