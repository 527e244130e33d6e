//go:build system

package system

import (
	"syscall"
	"testing"
)

// TestAutoRestart kills the init of a guest, as its own kernel or a bug might, and has
// the guest power itself off.
func TestAutoRestart(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.setUp("dir")
	c, other := h.name("c1"), h.name("c2")
	h.launch(c, "-c", "boot.autorestart=true")
	h.launch(other)
	// Between two lives there is no init.
	alive := func(name string) int {
		var s struct {
			PID int `json:"pid"`
		}
		h.get("/1.0/instances/"+name+"/state", &s)
		return max(s.PID, 0)
	}
	fall := func(name string) int {
		pid := h.initPID(name)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	fall(other)
	old := fall(c)
	h.eventually("another life", func() bool { return alive(c) != 0 && alive(c) != old })
	h.waitBooted(c)
	old = h.initPID(c)
	h.try("exec", c, "--", "poweroff", "-f")
	h.eventually("a third life", func() bool { return alive(c) != 0 && alive(c) != old })
	h.waitBooted(c)
	if got := h.state(other); got != "STOPPED" {
		t.Errorf("the one without the key: %s", got)
	}
	// The pause is long by now; a stop ends it.
	fall(c)
	h.eventually("the end", func() bool { return h.state(c) == "STOPPED" })
	h.lxc("stop", c)
	if r := h.try("stop", c); r.code == 0 {
		t.Error("stopped twice")
	}
	if got := h.lxc("config", "get", c, "volatile.last_state.power"); got != "STOPPED\n" {
		t.Errorf("it is still to run: %q", got)
	}
}
