//go:build system

package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"sett/shared/api"
)

// begun begins an operation and returns its id, without waiting for it.
func (h *host) begun(method, path string, body any) string {
	h.t.Helper()
	code, a := h.request(method, path, body)
	if code != http.StatusAccepted {
		h.t.Fatalf("%s %s: %d %s\n%s", method, path, code, a.Error, h.logTail())
	}
	return strings.TrimPrefix(a.Operation, "/1.0/operations/")
}

// operation waits for the end of an operation and returns it; nil when nobody knows it.
func (h *host) operation(id string) *api.Operation {
	h.t.Helper()
	code, a := h.request("GET", "/1.0/operations/"+id+"/wait?timeout=60", nil)
	if code == http.StatusNotFound {
		return nil
	}
	var o api.Operation
	if code != http.StatusOK || json.Unmarshal(a.Metadata, &o) != nil {
		h.t.Fatalf("operation %s: %d %s", id, code, a.Error)
	}
	return &o
}

// finish waits for the end of an operation, which must be a good one.
func (h *host) finish(id string) {
	h.t.Helper()
	if o := h.operation(id); o == nil || o.StatusCode != api.Success {
		h.t.Fatalf("the operation ended as %+v\n%s", o, h.logTail())
	}
}

// crashed kills the daemon some time after an operation has begun, starts it again, and
// returns what the history says of the operation. It may be nothing when the daemon was
// killed at once.
func (h *host) crashed(after time.Duration, id string) *api.Operation {
	h.t.Helper()
	<-time.After(after)
	h.seen()
	h.stop(syscall.SIGKILL)
	h.start()
	h.seen()
	o := h.operation(id)
	if o != nil && (!o.StatusCode.IsFinal() || o.EndedAt == nil) {
		h.t.Errorf("after the restart the operation is %+v", o)
	}
	return o
}

// agrees holds what the history says against what is so.
func (h *host) agrees(o *api.Operation, what string, done bool) {
	h.t.Helper()
	switch {
	case o == nil && done:
		h.t.Errorf("%s: it is done, and nothing is known of it", what)
	case o == nil: // the daemon was killed before it had begun
	case done != (o.StatusCode == api.Success):
		h.t.Errorf("%s: done is %v, the history says %s %q %v", what, done, o.Status, o.Err, o.Log)
	case !done && !strings.Contains(o.Err, "Rolled back"):
		h.t.Errorf("%s: the history does not say that it was rolled back: %q", what, o.Err)
	}
}

func (h *host) snapshotNames(c string) []string {
	h.t.Helper()
	var urls, names []string
	h.get("/1.0/instances/"+c+"/snapshots", &urls)
	for _, u := range urls {
		names = append(names, u[strings.LastIndexByte(u, '/')+1:])
	}
	return names
}

// TestHistoryTellsWhatACrashCutOff kills the daemon at several moments of each operation.
// What the operation was to do is done or undone after the restart, the history says which,
// and the next try works.
func TestHistoryTellsWhatACrashCutOff(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			outcomes := map[string]int{}
			for n, after := range []time.Duration{0, 6, 25, 120} {
				after *= time.Millisecond
				c := h.name(fmt.Sprintf("o%d", n))
				one := "/1.0/instances/" + c
				note := func(what string, o *api.Operation) {
					status := "unknown"
					if o != nil {
						status = o.Status
					}
					outcomes[what+" "+status]++
				}

				create := func() string {
					return h.begun("POST", "/1.0/instances", map[string]any{"name": c, "config": map[string]string{"boot.autostart": "false"},
						"source": map[string]string{"type": "image", "alias": "tiny"}})
				}
				o := h.crashed(after, create())
				note("create", o)
				h.agrees(o, "create", h.state(c) != "")
				if h.state(c) == "" {
					h.noTraces(c)
					h.finish(create())
				}

				state := func(action string) string {
					return h.begun("PUT", one+"/state", map[string]any{"action": action, "force": true})
				}
				o = h.crashed(after, state("start"))
				note("start", o)
				h.agrees(o, "start", h.state(c) == "RUNNING")
				if h.state(c) != "RUNNING" {
					h.finish(state("start"))
				}
				h.waitBooted(c)
				h.lxc("exec", c, "--", "sh", "-c", "echo old > /root/file; sync")

				snapshot := func() string { return h.begun("POST", one+"/snapshots", map[string]any{"name": "s1"}) }
				o = h.crashed(after, snapshot())
				note("snapshot", o)
				h.agrees(o, "snapshot", len(h.snapshotNames(c)) == 1)
				if len(h.snapshotNames(c)) == 0 {
					h.finish(snapshot())
				}
				if s := h.state(c); s != "RUNNING" {
					t.Errorf("after the snapshot the instance is %s", s)
				}

				rename := func() string { return h.begun("POST", one+"/snapshots/s1", map[string]any{"name": "s2"}) }
				o = h.crashed(after, rename())
				note("rename of a snapshot", o)
				h.agrees(o, "rename of a snapshot", h.snapshotNames(c)[0] == "s2")
				if h.snapshotNames(c)[0] == "s1" {
					h.finish(rename())
				}

				// Of an instance that runs: its processes end, and nothing else is lost.
				h.lxc("exec", c, "--", "sh", "-c", "echo new > /root/file; sync")
				restore := func() string { return h.begun("PUT", one, map[string]any{"restore": "s2"}) }
				o = h.crashed(after, restore())
				note("restore", o)
				if h.state(c) != "RUNNING" {
					h.finish(state("start"))
				}
				h.waitBooted(c)
				file := strings.TrimSpace(h.lxc("exec", c, "--", "cat", "/root/file"))
				h.agrees(o, "restore", file == "old")
				if file == "new" {
					h.finish(restore())
					h.waitBooted(c)
					file = strings.TrimSpace(h.lxc("exec", c, "--", "cat", "/root/file"))
				}
				if file != "old" {
					t.Errorf("after the restore the file holds %q", file)
				}

				pid := h.initPID(c)
				o = h.crashed(after, state("restart"))
				note("restart", o)
				if h.state(c) == "RUNNING" {
					h.agrees(o, "restart", h.initPID(c) != pid)
				} else {
					if o != nil && o.StatusCode == api.Success {
						t.Errorf("the restart ended well, and the instance is %s", h.state(c))
					}
					h.finish(state("start"))
				}

				o = h.crashed(after, state("stop"))
				note("stop", o)
				h.agrees(o, "stop", h.state(c) == "STOPPED")
				if h.state(c) != "STOPPED" {
					h.finish(state("stop"))
				}

				o = h.crashed(after, h.begun("DELETE", one+"/snapshots/s2", nil))
				note("delete of a snapshot", o)
				h.agrees(o, "delete of a snapshot", len(h.snapshotNames(c)) == 0)
				if len(h.snapshotNames(c)) != 0 {
					h.finish(h.begun("DELETE", one+"/snapshots/s2", nil))
				}

				to := h.name(fmt.Sprintf("r%d", n))
				move := func() string { return h.begun("POST", one, map[string]any{"name": to}) }
				o = h.crashed(after, move())
				note("rename", o)
				h.agrees(o, "rename", h.state(to) != "")
				if h.state(to) == "" {
					h.finish(move())
				}
				h.noTraces(c)

				gone := func() string { return h.begun("DELETE", "/1.0/instances/"+to, nil) }
				o = h.crashed(after, gone())
				note("delete", o)
				h.agrees(o, "delete", h.state(to) == "")
				if h.state(to) != "" {
					h.lxc("start", to) // whole still
					h.waitBooted(to)
					h.lxc("delete", "--force", to)
				}
				h.noTraces(to)
			}
			t.Logf("outcomes: %v", outcomes)
		})
	}
}

// TestDeafGuestKeepsNothing: a guest whose init does not follow holds neither its
// instance nor those who wait for it. An interrupt of the client cancels what it waits for.
func TestDeafGuestKeepsNothing(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("deaf")
	h.launch(c)
	deafen := func() {
		if err := syscall.Kill(h.initPID(c), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	deafen()
	stop := func() *exec.Cmd {
		cmd := exec.Command(h.client, "stop", c)
		cmd.Env = h.environ()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		h.eventually("the stop to wait", func() bool { return strings.Contains(h.lxc("operation", "list"), "Stopping instance") })
		return cmd
	}
	cmd := stop()
	if r := h.try("config", "set", c, "user.x=1"); r.code == 0 || !strings.Contains(r.stderr, "stop (operation ") {
		t.Errorf("meanwhile: exit %d, %q; want the stop named, with its operation", r.code, r.stderr)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("an interrupted stop ended well")
	}
	h.eventually("the cancelled stop to be remembered", func() bool {
		return strings.Contains(h.lxc("operation", "list", "--all", "--format", "csv"), "Stopping instance,"+c+",CANCELLED,root (unix)")
	})
	if s := h.state(c); s != "RUNNING" {
		t.Errorf("after the cancel the instance is %s", s)
	}
	h.lxc("config", "set", c, "user.x=1")

	// The client is killed: the operation goes on, and ends when somebody stops by force.
	cmd = stop()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if out := h.lxc("operation", "list"); !strings.Contains(out, "Stopping instance") {
		t.Errorf("the operation went with its client: %s", out)
	}
	h.lxc("stop", "--force", c)
	if s := h.state(c); s != "STOPPED" {
		t.Errorf("after the stop by force the instance is %s", s)
	}
	h.eventually("no operation", func() bool { return !strings.Contains(h.lxc("operation", "list"), "RUNNING") })

	// init is killed while somebody waits for it to end by itself.
	h.lxc("start", c)
	h.waitBooted(c)
	deafen()
	cmd = stop()
	if err := syscall.Kill(h.initPID(c), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the stop of an instance whose init was killed: %v", err)
	}
	h.lxc("delete", c)
	h.noTraces(c)
}

// TestLXDsClientSeesTheHistory: what our client can do beyond LXD's does not disturb that.
func TestLXDsClientSeesTheHistory(t *testing.T) {
	theirs, err := exec.LookPath("/usr/bin/lxc")
	if err != nil {
		t.Log("LXD's client is not installed; only our own is tried")
	}
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c")
	id := h.begun("POST", "/1.0/instances", map[string]any{"name": c, "source": map[string]string{"type": "image", "alias": "tiny"}})
	h.finish(id)
	if out := h.lxc("operation", "show", id); !strings.Contains(out, "requestor:") || !strings.Contains(out, "status: Success") || !strings.Contains(out, "make the root volume") {
		t.Errorf("our client shows %s", out)
	}
	if theirs == "" {
		return
	}
	for _, args := range [][]string{{"operation", "show", id}, {"operation", "list"}, {"delete", c}} {
		if r := h.run(theirs, args...); r.code != 0 {
			t.Errorf("LXD's lxc %v: %s", args, r.stderr)
		}
	}
}
