//go:build system

package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestContainersOutliveTheDaemon(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			h := newHost(t)
			h.setUp("dir")
			stays, ends := h.name("stays"), h.name("ends")
			h.launch(stays)
			h.launch(ends, "-c", "boot.autostart=false")
			pid, endsPID := h.initPID(stays), h.initPID(ends)
			ip := h.ipv4(stays)

			h.stop(sig)
			if err := syscall.Kill(pid, 0); err != nil {
				t.Fatalf("the container died with the daemon: %v", err)
			}
			// One container stops while nobody looks.
			if err := syscall.Kill(endsPID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			h.eventually("the container to die", func() bool { return syscall.Kill(endsPID, 0) != nil })
			h.start()

			if s := h.state(stays); s != "RUNNING" {
				t.Errorf("after the restart the container is %s", s)
			}
			if got := h.initPID(stays); got != pid {
				t.Errorf("init was %d and is %d", pid, got)
			}
			if got := h.ipv4(stays); !got.Equal(ip) {
				t.Errorf("the address was %s and is %s", ip, got)
			}
			if out := h.lxc("exec", stays, "--", "hostname"); out != stays+"\n" {
				t.Errorf("hostname says %q", out)
			}
			h.eventually("the dead container to be noticed", func() bool { return h.state(ends) == "STOPPED" })
			h.eventually("one interface to be left on the bridge", func() bool {
				return len(dirNames("/sys/class/net/"+h.bridge()+"/brif")) == 1
			})
			h.lxc("start", ends)
			h.waitBooted(ends)

			// An adopted container is watched: its end is seen.
			h.try("exec", stays, "--", "poweroff")
			h.eventually("end of the adopted container", func() bool { return h.state(stays) == "STOPPED" })
			h.lxc("stop", ends)
			h.noTraces(stays)
			h.noTraces(ends)
		})
	}
}

// TestKillDuringWork kills the daemon at many moments of create, start and delete.
// After each restart the instance is whole or gone.
func TestKillDuringWork(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			// Spread over the time that the work takes; create is the longest of them.
			for i, after := range []time.Duration{1, 5, 10, 20, 35, 60, 100, 160, 250} {
				after *= time.Millisecond
				c := h.name(fmt.Sprintf("k%d", i))
				// Without autostart nothing moves by itself once the daemon is back.
				h.killWhile(after, "launch", "tiny", c, "-c", "boot.autostart=false")
				h.eventually("an instance that is whole or gone", func() bool {
					s := h.state(c)
					return s == "" || s == "RUNNING" || s == "STOPPED"
				})
				switch h.state(c) {
				case "STOPPED":
					h.lxc("start", c)
					fallthrough
				case "RUNNING":
					h.waitBooted(c)
				}
				if h.state(c) == "" { // the name and all that hung on it are free again
					h.launch(c, "-c", "boot.autostart=false")
				}
				h.killWhile(after, "stop", "--force", c)
				h.eventually("a settled state", func() bool { s := h.state(c); return s == "RUNNING" || s == "STOPPED" })
				if h.state(c) == "RUNNING" {
					h.lxc("stop", "--force", c)
				}
				h.killWhile(after, "delete", c)
				if h.state(c) != "" {
					// Whole still: it starts.
					h.lxc("start", c)
					h.waitBooted(c)
					h.lxc("delete", "--force", c)
				}
				h.noTraces(c)
			}
		})
	}
}

// TestKillDuringChangeOfAnInterface kills the daemon at many moments of changes to an interface
// of a guest that runs, in place and to another network. After each restart the host has what
// is stored, and no more.
func TestKillDuringChangeOfAnInterface(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c, other := h.name("c1"), "two"+h.token
	h.lxc("network", "create", other)
	h.launch(c)
	h.lxc("config", "device", "override", c, "eth0", "limits.priority=1", "limits.max=1Mbit")
	stored := func(key string) string { return strings.TrimSpace(h.lxc("config", "device", "get", c, "eth0", key)) }
	rules := func(chain string) string {
		out, _ := exec.Command("nft", "list", "chain", "bridge", "lxd", chain).Output() // fails without one
		return string(out)
	}
	port := func() string { return strings.TrimSpace(h.lxc("config", "get", c, "volatile.eth0.host_name")) }
	for i, after := range []time.Duration{2, 10, 20, 30, 40, 50, 60, 75, 90, 120, 160, 220} {
		after *= time.Millisecond
		set := []string{"config", "device", "set", c, "eth0", fmt.Sprintf("limits.priority=%d", i+2), fmt.Sprintf("limits.max=%dMbit", i+2), fmt.Sprintf("security.mac_filtering=%v", i%2 == 0)}
		if i%3 == 2 {
			set = append(set, "network="+map[bool]string{true: other, false: h.bridge()}[stored("network") == h.bridge()])
		}
		was := port()
		h.killWhile(after, set...)
		if h.state(c) != "RUNNING" {
			t.Fatalf("%v: the instance is %s", after, h.state(c))
		}
		now := port()
		h.links[now] = true
		if _, err := os.Lstat("/sys/class/net/" + was); now != was && (err == nil || rules("prio."+was) != "") {
			t.Errorf("%v: %s stayed", after, was)
		}
		master, err := os.Readlink("/sys/class/net/" + now + "/master")
		if filepath.Base(master) != stored("network") {
			t.Errorf("%v: %s is a port of %s, and should be of %s: %v", after, now, master, stored("network"), err)
		}
		priority, err := strconv.Atoi(stored("limits.priority"))
		if got := rules("prio." + now); err != nil || !strings.Contains(got, fmt.Sprintf(" 0:%x\n", priority)) {
			t.Errorf("%v: %s is stored, and the rules are\n%s", after, stored("limits.priority"), got)
		}
		if got := rules("in." + c + ".eth0"); (got != "") != (stored("security.mac_filtering") == "true") {
			t.Errorf("%v: mac_filtering is %q, and the rules are\n%s", after, stored("security.mac_filtering"), got)
		}
		rate, err := exec.Command("tc", "class", "show", "dev", now).Output()
		if err != nil || !strings.Contains(string(rate), "rate "+strings.Replace(stored("limits.max"), "Mbit", "Mbit ", 1)) {
			t.Errorf("%v: limits.max is %s, and the limit %s, %v", after, stored("limits.max"), rate, err)
		}
		h.lxc("exec", c, "--", "ip", "link", "set", "eth0", "up")
	}
	end := port()
	h.lxc("stop", "--force", c)
	if got := rules("prio."+end) + rules("in."+c+".eth0"); got != "" {
		t.Errorf("after the stop:\n%s", got)
	}
}

// killWhile runs a client command, kills the daemon some time after and starts it
// again. What the client says does not matter.
func (h *host) killWhile(after time.Duration, args ...string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.client, args...)
	cmd.Env = h.environ()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	<-time.After(after)
	h.seen()
	h.stop(syscall.SIGKILL)
	<-done
	h.start()
	h.seen()
}

func TestOneDaemonPerFolder(t *testing.T) {
	h := newHost(t)
	r := h.run(h.bin.lxd(), "--logfile", h.logFile()+".2")
	if r.code == 0 || !strings.Contains(r.stderr, h.lxdDir()) {
		t.Errorf("a second daemon: exit %d, %q", r.code, r.stderr)
	}
	h.lxc("list")
}
