//go:build system

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// guestsys is the program that makes system calls in guests.
var guestsys = sync.OnceValues(func() (string, error) { return guestProgram("guestsys") })

// guestProgram builds one of the programs for guests.
func guestProgram(name string) (string, error) {
	dir, err := os.MkdirTemp("", "sett-"+name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "program"), "./test/lib/"+name)
	cmd.Dir = top()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return string(out), err
	}
	b, err := os.ReadFile(filepath.Join(dir, "program"))
	return string(b), err
}

// place brings a program into a guest.
func (h *host) place(c, at, program string) {
	h.t.Helper()
	h.lxcIn(program, "exec", c, "--", "sh", "-c", "cat >"+at+" && chmod 755 "+at)
}

// sys runs a line with guestsys in a guest.
func (h *host) sys(c, line string) string {
	h.t.Helper()
	r := h.try("exec", c, "--", "sh", "-c", line)
	return strings.TrimSpace(r.stdout + r.stderr)
}

// What the host does for guests, through the keys that say so, and through a crash of
// the daemon and of who acts in its place.
func TestSystemCallsAreIntercepted(t *testing.T) {
	program, err := guestsys()
	if err != nil {
		t.Fatal(err, program)
	}
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			const keys = "security.syscalls.intercept."
			c1, c2 := h.name("c1"), h.name("c2")
			h.launch(c1, "-c", keys+"mknod=true", "-c", keys+"setxattr=true", "-c", keys+"sysinfo=true", "-c", "limits.memory=128MiB")
			h.launch(c2)
			for _, c := range []string{c1, c2} {
				h.place(c, "/bin/guestsys", program)
			}
			for _, c := range [][2]string{
				{"guestsys mknod /null 020666 1 3 && echo x >/null && stat -c '%t:%T %u' /null", "ok\n1:3 0"},
				{"guestsys mknod /dev/zero2 020666 1 5 && head -c 2 /dev/zero2 | wc -c", "ok\n2"},
				{"guestsys mknod /disk 060600 8 0", "EPERM"},
				{"mkdir /upper && guestsys opaque /upper", "ok"},
				{"guestsys sysinfo | sed 's/ free.*//'", "ok\ntotal 134217728"},
			} {
				if got := h.sys(c1, c[0]); got != c[1] {
					t.Errorf("%s: %q, not %q", c[0], got, c[1])
				}
			}
			if got := h.sys(c2, "guestsys mknod /null 020666 1 3; guestsys opaque /bin"); got != "EPERM\nEPERM" {
				t.Errorf("without the keys: %q", got)
			}
			// Whoever calls all the time does not notice that the daemon is away.
			h.lxc("exec", c1, "--", "sh", "-c", "setsid sh -c 'while :; do guestsys mknod /n 020666 1 3; rm -f /n; done' >/log 2>&1 </dev/null &")
			h.eventually("the first calls", func() bool { return h.sys(c1, "wc -l </log") > "5" })
			h.stop(syscall.SIGKILL)
			lines := func() int {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root/log", calling(t, h)))
				return strings.Count(string(b), "\n")
			}
			before := lines()
			h.eventually("more of them", func() bool { return lines() > before+20 })
			h.start()
			if got := h.sys(c1, "guestsys mknod /again 020666 1 3; grep -v ok /log | head -3"); got != "ok" {
				t.Errorf("after the crash: %q", got)
			}
			h.lxc("restart", "--force", c1)
			h.waitBooted(c1)
			if got := h.sys(c1, "guestsys mknod /after 020666 1 3"); got != "ok" {
				t.Errorf("after a restart: %q", got)
			}
			h.lxc("delete", "--force", c1, c2)
			h.noTraces(c1)
			if out, _ := exec.Command("pgrep", "-f", "lxd-shim intercept").Output(); driver == "dir" && strings.Contains(h.owners(strings.Fields(string(out))), h.token) {
				t.Errorf("somebody still answers: %s", out)
			}
		})
	}
}

// calling is the process id of a shell that makes calls.
func calling(t *testing.T, h *host) int {
	t.Helper()
	var found int
	h.eventually("a process that calls", func() bool {
		procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range procs {
			b, _ := os.ReadFile(p)
			if g, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "cgroup")); strings.Contains(string(g), h.token) && strings.Contains(string(b), "while :") {
				_, _ = fmt.Sscanf(p, "/proc/%d/", &found)
			}
		}
		return found > 0
	})
	return found
}

// owners are the cgroups of processes.
func (h *host) owners(pids []string) string {
	out := ""
	for _, p := range pids {
		b, _ := os.ReadFile("/proc/" + p + "/cgroup")
		out += string(b)
	}
	return out
}

// Lists of calls, by their names of now and of before, from both clients.
func TestSystemCallsAreFiltered(t *testing.T) {
	program, err := guestsys()
	if err != nil {
		t.Fatal(err, program)
	}
	clients(t, func(t *testing.T, client string) {
		h := newHost(t)
		h.client = client
		h.setUp("dir")
		c := h.name("c1")
		h.launch(c, "-c", "security.syscalls.deny=mkdirat errno 95", "-c", "security.syscalls.blacklist_compat=true")
		h.place(c, "/bin/guestsys", program)
		if got := h.sys(c, "guestsys mkdir /x; guestsys int80"); got != "ENOTSUP\n-38" {
			t.Errorf("denied: %q", got)
		}
		for _, bad := range []string{
			"security.syscalls.allow=read", "security.syscalls.blacklist=mkdir", "raw.seccomp=2\ndenylist\n", "security.syscalls.deny=a b",
			"security.syscalls.intercept.mount.allowed=proc", "security.syscalls.intercept.mount.allowed=9p", "security.syscalls.intercept.bpf=true",
			"security.syscalls.deny=mkdir trace", "security.syscalls.deny=mkdir errno 1\nmkdir errno 2", "security.syscalls.deny=umount2 notify",
		} {
			if r := h.try("config", "set", c, bad); r.code == 0 {
				t.Errorf("%s was taken", bad)
			}
		}
		h.lxc("config", "unset", c, "security.syscalls.deny")
		h.lxc("config", "unset", c, "security.syscalls.blacklist_compat")
		h.lxc("config", "set", c, "raw.seccomp=2\ndenylist\n[all]\nmkdirat errno 3\n")
		h.lxc("restart", "--force", c)
		h.waitBooted(c)
		if got := h.sys(c, "guestsys mkdir /x; guestsys int80 | grep -c ^-"); got != "ESRCH\n0" {
			t.Errorf("raw: %q", got)
		}
		h.lxc("config", "unset", c, "raw.seccomp")
		// An instance that may call next to nothing does not start, and says so.
		h.lxc("stop", "--force", c)
		h.lxc("config", "set", c, "security.syscalls.whitelist", "read")
		if r := h.try("start", c); r.code == 0 {
			h.eventually("its end", func() bool { return h.state(c) == "STOPPED" })
		}
		h.lxc("config", "unset", c, "security.syscalls.whitelist")
		h.lxc("start", c)
		h.waitBooted(c)
		h.lxc("delete", "--force", c)
		h.noTraces(c)
	})
}
