//go:build system

package system

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// guestcall is the program by which guests of the small image ask /dev/lxd.
var guestcall = sync.OnceValues(func() (string, error) { return guestProgram("guestcall") })

// equip brings guestcall into a guest.
func (h *host) equip(c string) {
	h.t.Helper()
	program, err := guestcall()
	if err != nil {
		h.t.Fatal(err, program)
	}
	h.place(c, "/bin/call", program)
}

// ask has a guest ask /dev/lxd; flags are for "lxc exec", and the words before the
// program what it is run by.
func (h *host) ask(c string, flags, by []string, args ...string) string {
	h.t.Helper()
	line := append([]string{"exec", c}, flags...)
	line = append(append(append(line, "--"), by...), "/bin/call")
	return strings.TrimSpace(h.try(append(line, args...)...).stdout)
}

func TestGuestAPI(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.setUp("dir")
	c1, c2 := h.name("c1"), h.name("c2")
	h.launch(c1, "-c", "user.a=one", "-c", "cloud-init.user-data=#cloud-config")
	h.launch(c2, "-c", "user.a=two", "-c", "security.privileged=true")
	h.equip(c1)
	h.equip(c2)
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	want(h.ask(c1, nil, nil, "GET", "/"), `200 ["/1.0"]`)
	want(h.ask(c1, nil, nil, "GET", "/1.0/config/user.a"), "200 one")
	want(h.ask(c2, nil, nil, "GET", "/1.0/config/user.a"), "200 two")
	want(h.ask(c1, nil, nil, "GET", "/1.0/config"), `200 ["/1.0/config/cloud-init.user-data","/1.0/config/user.a"]`)
	want(h.ask(c1, []string{"--user", "1000"}, nil, "GET", "/1.0/config/user.a"), "401 Access denied for non-root user")
	// Namespaces that the guest makes do not hide whose it is, nor make it another's.
	want(h.ask(c1, nil, []string{"unshare", "--pid", "--fork", "unshare", "--pid", "--fork"}, "GET", "/1.0/config/user.a"), "200 one")

	// The folder is the host's: not even root of a privileged guest changes it.
	for _, c := range []string{c1, c2} {
		for _, try := range []string{"rm /dev/lxd/sock", "touch /dev/lxd/x", "mv /dev/lxd/sock /dev/lxd/y"} {
			if h.try("exec", c, "--", "sh", "-c", try).code == 0 {
				t.Errorf("%s could %s", c, try)
			}
		}
	}
	want(h.ask(c1, nil, nil, "GET", "/1.0/config/user.a"), "200 one")

	// A process of the host is nobody's.
	hc := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(h.lxdDir(), "devlxd", "sock"))
	}}}
	resp, err := hc.Get("http://lxd/1.0/config")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	hc.CloseIdleConnections()
	if resp.StatusCode != 403 {
		t.Errorf("the host itself: %s", resp.Status)
	}

	// Guests reach the next daemon by the folder that they have.
	h.stop(syscall.SIGKILL)
	h.start()
	want(h.ask(c1, nil, nil, "GET", "/1.0/config/user.a"), "200 one")
	want(h.ask(c1, nil, nil, "PATCH", "/1.0", `{"state":"Ready"}`), "200")
	want(h.state(c1), "READY")
	h.lxc("restart", "-f", c1)
	h.waitBooted(c1)
	want(h.state(c1), "RUNNING")

	// A client that waits is told when the guest says so.
	h.lxc("restart", "-f", c1, "--wait=ip")
	if h.ipv4(c1) == nil {
		t.Error("no address after a wait for it")
	}
	waited := make(chan result, 1)
	go func() { waited <- h.try("restart", "-f", c1, "--wait=ready", "--wait-timeout=50") }()
	h.eventually("the guest's word", func() bool {
		select {
		case r := <-waited:
			t.Fatalf("the wait ended too early: %d %s", r.code, r.stderr)
		default:
		}
		return h.ask(c1, nil, nil, "PATCH", "/1.0", `{"state":"Ready"}`) == "200" && h.state(c1) == "READY"
	})
	if r := <-waited; r.code != 0 {
		t.Errorf("wait for ready: %s", r.stderr)
	}

	// The very first thing that a guest does may be to ask, before its start has ended.
	h.lxc("exec", c1, "--", "sed", "-i", `2i /bin/call PATCH /1.0 '{"state":"Ready"}' >/early`, "/sbin/init")
	h.lxc("restart", "-f", c1, "--wait=ready", "--wait-timeout=50")
	want(h.lxc("exec", c1, "--", "cat", "/early"), "200 ")

	h.lxc("config", "set", c1, "security.devlxd", "false")
	if h.try("exec", c1, "--", "ls", "/dev/lxd/sock").code == 0 {
		t.Error("/dev/lxd is still there")
	}
	// Now nothing in it can say that it is ready.
	if r := h.try("restart", "-f", c1, "--wait=ready"); r.code == 0 || !strings.Contains(r.stderr, "security.devlxd is off") {
		t.Errorf("wait for what cannot be: exit %d, %s", r.code, r.stderr)
	}
	h.waitBooted(c1)
	h.lxc("config", "set", c1, "security.devlxd", "true")
	want(h.ask(c1, nil, nil, "GET", "/1.0/config/user.a"), "200 one")
}

// TestTemplates has LXD's own client change what an image brings along, and images try
// to reach the host by it.
func TestTemplates(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.setUp("btrfs")
	if _, err := os.Stat("/usr/bin/lxc"); err == nil {
		h.client = "/usr/bin/lxc"
	}
	c := h.name("c1")
	h.launch(c)
	if got := h.lxc("exec", c, "--", "sh", "-c", "cat /etc/hostname; stat -c %u:%g /etc/hostname"); got != c+"\n0:0\n" {
		t.Errorf("hostname and its owner: %q", got)
	}
	if got := h.lxc("config", "template", "list", c, "--format", "csv"); got != "hostname.tpl\n" {
		t.Errorf("templates: %q", got)
	}
	h.lxc("config", "template", "create", c, "note.tpl")
	h.lxcIn("{{ trigger }} {{ instance.privileged }} {{ config_get(\"user.x\", \"none\") }}\n", "config", "template", "edit", c, "note.tpl")
	if got := h.lxc("config", "template", "show", c, "note.tpl"); !strings.HasPrefix(got, "{{ trigger }}") {
		t.Errorf("template: %q", got)
	}
	meta := h.lxc("config", "metadata", "show", c)
	entry := "  /run.note:\n    when: [start]\n    template: note.tpl\n  /etc/out/passwd:\n    when: [start]\n    template: note.tpl\n"
	h.lxcIn(strings.Replace(meta, "templates:\n", "templates:\n"+entry, 1), "config", "metadata", "edit", c)
	before, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	// /etc of the guest is what the text for /etc/out/passwd would go to, not the host's.
	h.lxc("exec", c, "--", "sh", "-c", "ln -s /etc /etc/out; rm /etc/hostname; ln -s /proc/1/root/etc/passwd /run.note")
	h.lxc("stop", "-f", c)
	h.lxc("config", "set", c, "user.x", "y")
	h.lxc("start", c)
	h.waitBooted(c)
	if got := h.lxc("exec", c, "--", "cat", "/run.note", "/etc/passwd"); got != "start false y\nstart false y\n" {
		t.Errorf("the guest got %q", got)
	}
	if after, err := os.ReadFile("/etc/passwd"); err != nil || string(after) != string(before) {
		t.Fatalf("the host's /etc/passwd has changed: %v", err)
	}
	h.lxc("stop", "-f", c)
	loop := strings.Repeat(`{% for a in "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" %}`, 10) + strings.Repeat(`{% endfor %}`, 10)
	for name, source := range map[string]string{"a loop": loop, "the host's files": `{% include "/etc/passwd" %}`} {
		h.lxcIn(source, "config", "template", "edit", c, "note.tpl")
		if r := h.try("start", c); r.code == 0 || !strings.Contains(r.stderr, "template") {
			t.Errorf("start with %s: %d %s", name, r.code, r.stderr)
		}
		if got := h.state(c); got != "STOPPED" {
			t.Errorf("after %s: %s", name, got)
		}
	}
	h.lxc("config", "template", "delete", c, "note.tpl")
	h.lxcIn(meta, "config", "metadata", "edit", c)
	h.lxc("start", c)
	h.waitBooted(c)
}

// TestCloudInitIsSeeded does with an instance what images with cloud-init do: templates
// write what cloud-init reads at its first start.
func TestCloudInitIsSeeded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.setUp("btrfs")
	c := h.name("c1")
	const seed = "/var/lib/cloud/seed/nocloud-net/"
	templates := map[string]string{
		"meta-data":      "#cloud-config\ninstance-id: {{ container.name }}\nlocal-hostname: {{ instance.name }}\n{{ config_get(\"user.meta-data\", \"\") }}\n",
		"user-data":      "{% if config_get(\"user.user-data\", \"\") == \"\" %}{{ properties.default }}{% else %}{{ config_get(\"user.user-data\", \"\") }}{% endif %}\n",
		"vendor-data":    "{{ config_get(\"user.vendor-data\", properties.default) }}\n",
		"network-config": "{% if config_get(\"user.network-config\", \"\") == \"\" %}version: 1\nconfig:\n  - type: physical\n    name: {% if instance.type == \"virtual-machine\" %}enp5s0{% else %}eth0{% endif %}\n{% else %}{{ config_get(\"user.network-config\", \"\") }}{% endif %}\n",
	}
	user := "#cloud-config\nruncmd:\n  - [sh, -c, \"echo <a> & 'b' {{ instance.name }}\"]"
	h.lxc("init", "tiny", c, "-c", "user.user-data="+user, "-c", "user.meta-data=more: yes", "-c", "cloud-init.vendor-data=#cloud-config\n{}")
	entries := "templates:\n"
	for _, name := range slices.Sorted(maps.Keys(templates)) {
		h.lxc("config", "template", "create", c, name+".tpl")
		h.lxcIn(templates[name], "config", "template", "edit", c, name+".tpl")
		entries += "  " + seed + name + ":\n    when: [create, copy]\n    template: " + name + ".tpl\n    properties:\n      default: |\n        #cloud-config\n        {}\n"
	}
	h.lxcIn(strings.Replace(h.lxc("config", "metadata", "show", c), "templates:\n", entries, 1), "config", "metadata", "edit", c)
	h.lxc("start", c)
	h.waitBooted(c)
	for name, want := range map[string]string{
		"meta-data":      "#cloud-config\ninstance-id: " + c + "\nlocal-hostname: " + c + "\nmore: yes\n",
		"user-data":      user + "\n", // as it was given: neither escaped nor rendered
		"vendor-data":    "#cloud-config\n{}\n\n",
		"network-config": "version: 1\nconfig:\n  - type: physical\n    name: eth0\n\n",
	} {
		if got := h.lxc("file", "pull", c+seed+name, "-"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// At the second start nothing is written again.
	h.lxc("stop", "-f", c)
	h.lxcIn("mine", "file", "push", "-", c+seed+"user-data")
	h.lxc("start", c)
	if got := h.lxc("file", "pull", c+seed+"user-data", "-"); got != "mine" {
		t.Errorf("user-data was written again: %q", got)
	}
}
