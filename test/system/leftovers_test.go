//go:build system

package system

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// end empties the daemon, stops it, reports what it has left, and takes that away so
// that a failing test does not spoil the next one or the machine.
func (h *host) end() {
	h.t.Helper()
	h.seen()
	if h.cmd != nil && !h.alive() && !h.t.Failed() && !h.over {
		h.start()
	}
	if h.alive() {
		if !h.over {
			h.empty()
		}
		h.stopOrKill()
	}
	left := h.leftovers()
	// The kernel takes networks and mounts of ended processes apart in its own time.
	for range 50 {
		if len(left) == 0 {
			break
		}
		<-time.After(100 * time.Millisecond)
		left = h.leftovers()
	}
	if h.t.Failed() {
		h.t.Log(h.logTail())
	}
	for _, l := range left {
		// A test that has failed half-way leaves things by its nature.
		if h.t.Failed() {
			h.t.Log("left behind: " + l)
		} else {
			h.t.Error("left behind: " + l)
		}
	}
	h.sweep()
}

// empty removes all objects through the API.
func (h *host) empty() {
	h.t.Helper()
	must := func(args ...string) {
		if r := h.try(args...); r.code != 0 {
			h.t.Errorf("clean up: lxc %s: %s", strings.Join(args, " "), r.stderr)
		}
	}
	list := func(args ...string) []string {
		r := h.try(append(args, "--format", "csv")...)
		if r.code != 0 {
			h.t.Errorf("clean up: lxc %s: %s", strings.Join(args, " "), r.stderr)
		}
		return strings.Fields(r.stdout)
	}
	for _, n := range list("list", "--columns", "n") {
		must("delete", "--force", n)
	}
	for _, f := range list("image", "list", "--columns", "f") {
		must("image", "delete", f)
	}
	if r := h.runIn(strings.NewReader("config: {}\ndevices: {}\n"), h.client, "profile", "edit", "default"); r.code != 0 {
		h.t.Errorf("clean up: lxc profile edit: %s", r.stderr)
	}
	for _, kind := range []string{"network", "storage"} {
		for _, line := range strings.Split(h.try(kind, "list", "--format", "csv").stdout, "\n") {
			f := strings.Split(line, ",")
			managed := kind == "storage" || len(f) > 2 && f[2] == "YES"
			if f[0] != "" && managed {
				must(kind, "delete", f[0])
			}
		}
	}
	// After everything is deleted these folders hold nothing.
	for _, d := range []string{"containers", "snapshots", "images", "backups", "devices", "storage-pools", "disks", "networks", "shmounts"} {
		entries, _ := os.ReadDir(filepath.Join(h.lxdDir(), d))
		for _, e := range entries {
			if d == "backups" && (e.Name() == "custom" || e.Name() == "instances") {
				continue // the layout, not somebody's backup
			}
			h.t.Errorf("left behind: %s/%s in LXD_DIR", d, e.Name())
		}
	}
}

func (h *host) stopOrKill() {
	_ = h.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-h.exited:
	case <-time.After(patience):
		h.t.Errorf("the daemon does not end after SIGTERM\n%s", h.logTail())
		_ = h.cmd.Process.Kill()
		<-h.exited
	}
}

// seen notes the interfaces that hang on our bridge at this moment: their names say
// nothing about whose they are once the bridge is gone.
func (h *host) seen() {
	for _, l := range dirNames("/sys/class/net/" + h.bridge() + "/brif") {
		h.links[l] = true
	}
}

// leftovers lists what of this daemon is on the host. Other daemons may be at work at
// the same time, so it goes by what carries our token or our folder.
func (h *host) leftovers() []string {
	var out []string
	for _, p := range h.processes() {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p))
		out = append(out, fmt.Sprintf("process %d: %s", p, strings.ReplaceAll(string(cmdline), "\x00", " ")))
	}
	for _, m := range h.mounts() {
		out = append(out, "mount "+m)
	}
	for dev, file := range h.loops() {
		out = append(out, "loop device "+dev+" of "+file)
	}
	for _, l := range h.interfaces() {
		out = append(out, "network interface "+l)
	}
	for _, c := range h.cgroups() {
		out = append(out, "cgroup "+c)
	}
	rules, _ := exec.Command("nft", "list", "ruleset").Output()
	for _, line := range strings.Split(string(rules), "\n") {
		if strings.Contains(line, h.token) {
			out = append(out, "firewall: "+strings.TrimSpace(line))
		}
	}
	sockets, _ := os.ReadFile("/proc/net/unix")
	for _, line := range strings.Split(string(sockets), "\n") {
		// A name of "@" and five digits is the kernel's, for who has not given one, and may
		// have the token in it by chance.
		if f := strings.Fields(line); len(f) == 8 && strings.Contains(f[7], h.token) && (f[7][0] != '@' || len(f[7]) > 6) {
			out = append(out, "socket "+f[7])
		}
	}
	sort.Strings(out)
	return out
}

// processes are those that were started for this daemon, itself included.
func (h *host) processes() []int {
	var out []int
	for _, e := range dirNames("/proc") {
		pid, err := strconv.Atoi(e)
		if err != nil || pid == os.Getpid() {
			continue
		}
		// What is dead already is for the host's init to collect, which may be slow.
		if b, _ := os.ReadFile("/proc/" + e + "/stat"); bytes.Contains(b, []byte(") Z ")) {
			continue
		}
		for _, f := range []string{"cmdline", "environ", "cgroup"} {
			b, _ := os.ReadFile("/proc/" + e + "/" + f)
			if strings.Contains(string(b), h.dir) || f == "cgroup" && strings.Contains(string(b), "-"+h.token) {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}

// mounts are the mount points below our folder, deepest first.
func (h *host) mounts() []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if p := strings.Fields(s.Text())[4]; strings.HasPrefix(p, h.dir) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out
}

func (h *host) loops() map[string]string {
	out := map[string]string{}
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if b, _ := os.ReadFile(f); strings.HasPrefix(string(b), h.dir) {
			out["/dev/"+strings.Split(f, "/")[3]] = strings.TrimSpace(string(b))
		}
	}
	return out
}

func (h *host) interfaces() []string {
	var out []string
	for _, l := range dirNames("/sys/class/net") {
		if h.owns(l) {
			out = append(out, l)
		}
	}
	return out
}

// owns reports whether an interface is of this daemon. Names of "veth" and eight digits are
// drawn, and those of other daemons may have our token in them by chance.
func (h *host) owns(link string) bool {
	digits, drawn := strings.CutPrefix(link, "veth")
	return h.links[link] || strings.Contains(link, h.token) && !(drawn && len(digits) == 8)
}

// cgroups are the groups of our containers in all hierarchies, deepest first.
func (h *host) cgroups() []string {
	var out []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		if d.IsDir() && strings.Contains(path, "-"+h.token) {
			out = append(out, path)
		}
		return nil
	})
	slices.Reverse(out)
	return out
}

// sweep takes away by force all that leftovers finds, and the folder.
func (h *host) sweep() {
	for _, p := range h.processes() {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
	// A process may take a moment to die, and what it holds with it.
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(h.processes()) > 0 && time.Now().Before(deadline) {
		<-tick.C
	}
	for _, m := range h.mounts() {
		_ = syscall.Unmount(m, syscall.MNT_DETACH)
	}
	for dev := range h.loops() {
		_ = exec.Command("losetup", "-d", dev).Run()
	}
	for _, l := range h.interfaces() {
		_ = exec.Command("ip", "link", "delete", l).Run()
	}
	for _, c := range h.cgroups() {
		_ = os.Remove(c)
	}
	h.sweepFirewall()
	if len(h.mounts()) > 0 {
		h.t.Errorf("%s is kept: something is still mounted in it", h.dir)
		return
	}
	// A failed test's folder is worth a look when asked for.
	if h.t.Failed() && os.Getenv("SETT_KEEP") != "" {
		return
	}
	if err := os.RemoveAll(h.dir); err != nil {
		h.t.Errorf("remove the test folder: %v", err)
	}
}

// sweepFirewall deletes our chains. They are emptied first, since one may jump to another.
func (h *host) sweepFirewall() {
	out, _ := exec.Command("nft", "list", "chains").Output()
	var table string
	var ours [][]string
	for _, line := range strings.Split(string(out), "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) >= 3 && f[0] == "table":
			table = f[1] + " " + f[2]
		case len(f) >= 2 && f[0] == "chain" && strings.Contains(f[1], h.token):
			ours = append(ours, append(strings.Fields(table), f[1]))
		}
	}
	for _, verb := range []string{"flush", "delete"} {
		for _, c := range ours {
			_ = exec.Command("nft", append([]string{verb, "chain"}, c...)...).Run()
		}
	}
}

func dirNames(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// TestDrawnNamesAreNobodysByChance: what a test takes away by force is its own.
func TestDrawnNamesAreNobodysByChance(t *testing.T) {
	h := &host{token: "e8e9", links: map[string]bool{"veth00000001": true}}
	for link, ours := range map[string]bool{
		"syse8e9": true, "vethe8e9": true, "veth00000001": true,
		"veth363e8e9f": false, "vethe8e90000": false, "sys363e": false,
	} {
		if h.owns(link) != ours {
			t.Errorf("%s: ours is %v", link, !ours)
		}
	}
}
