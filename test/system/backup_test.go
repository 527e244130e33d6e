//go:build system

package system

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fill writes into a guest what archives have to bring back.
const fill = `echo one >/root/f; chown 12:34 /root/f; chmod 4755 /root/f; ln /root/f /root/g; ln -s /etc/passwd /root/s
mkfifo /root/p; dd if=/dev/zero of=/root/sparse bs=1 count=1 seek=10M 2>/dev/null; mkdir -p /root/d/e; sync`

// look tells of what fill has written.
const look = `cd /root; cat f; stat -c '%n %u:%g %a %F %h %s' f g s p sparse; stat -c '%n %u:%g %a %F' d/e; readlink s`

// change is what happens to it later; writing takes the suid bit away.
const change = `echo two >/root/f; chmod 4755 /root/f; sync`

func (h *host) spooled() []string {
	var out []string
	for _, n := range dirNames(filepath.Join(h.lxdDir(), "backups")) {
		if n != "instances" && n != "custom" {
			out = append(out, n)
		}
	}
	return append(out, dirNames(filepath.Join(h.lxdDir(), "backups", "instances"))...)
}

func TestBackupsOfAContainer(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			clients(t, func(t *testing.T, client string) {
				h := newHost(t)
				h.client = client
				h.setUp(driver)
				h.lxc("storage", "create", "other", map[string]string{"dir": "btrfs", "btrfs": "dir"}[driver])
				c, d := h.name("c1"), h.name("d1")
				h.launch(c)
				h.lxc("exec", c, "--", "sh", "-c", fill)
				want := h.lxc("exec", c, "--", "sh", "-c", look)
				h.lxc("snapshot", c, "s0")
				h.lxc("exec", c, "--", "sh", "-c", change)
				h.lxc("config", "set", c, "user.a=1")
				file := filepath.Join(h.dir, "b.tar.gz")
				h.lxc("export", c, file, "--quiet")
				if s := h.state(c); s != "RUNNING" {
					t.Errorf("after the export it is %s", s)
				}
				if left := h.spooled(); len(left) > 0 {
					t.Errorf("left in the folder of backups: %v", left)
				}
				if r := h.try("import", file, "--quiet"); r.code == 0 || !strings.Contains(r.stderr, "already") {
					t.Errorf("a name twice: exit %d, %s", r.code, r.stderr)
				}
				for _, pool := range []string{"default", "other"} {
					h.lxc("import", file, d, "--storage", pool, "--quiet")
					if got := strings.TrimSpace(h.lxc("config", "get", d, "user.a")); got != "1" {
						t.Errorf("user.a is %q", got)
					}
					h.lxc("start", d)
					h.waitBooted(d)
					if got := h.lxc("exec", d, "--", "sh", "-c", look); got != strings.Replace(want, "one", "two", 1) {
						t.Errorf("in pool %s it was\n%s\nand is\n%s", pool, want, got)
					}
					if n := strings.TrimSpace(h.lxc("exec", d, "--", "stat", "-c", "%b", "/root/sparse")); len(n) > 3 {
						t.Errorf("the holes are filled: %s blocks", n)
					}
					h.lxc("restore", d, "s0")
					h.waitBooted(d)
					if got := h.lxc("exec", d, "--", "sh", "-c", look); got != want {
						t.Errorf("the snapshot in pool %s was\n%s\nand is\n%s", pool, want, got)
					}
					h.lxc("delete", "--force", d)
				}
				if driver == "btrfs" {
					h.optimized(c, d, want)
				} else if r := h.try("export", c, file, "--optimized-storage"); r.code == 0 || !strings.Contains(r.stderr, "no optimized format") {
					t.Errorf("optimized: exit %d, %s", r.code, r.stderr)
				}
				if got := h.lxc("list", c, "--format", "csv", "--columns", "n"); strings.TrimSpace(got) != c {
					t.Errorf("the list shows %q", got)
				}
				h.lxc("export", c, file, "--quiet", "--instance-only", "--compression", "none")
				h.lxc("delete", "--force", c)
				h.lxc("import", file, "--quiet")
				if got := strings.TrimSpace(h.lxc("list", c, "--format", "csv", "--columns", "nS")); got != c+",0" {
					t.Errorf("without snapshots the list shows %q", got)
				}
				h.lxc("delete", c)
				h.noTraces(c)
				h.noTraces(d)
			})
		})
	}
}

// optimized takes a container with a snapshot to and from streams of btrfs, twice.
func (h *host) optimized(c, d, want string) {
	h.t.Helper()
	file := filepath.Join(h.dir, "o.tar.gz")
	h.lxc("export", c, file, "--optimized-storage", "--quiet")
	if r := h.try("import", file, d, "--storage", "other"); r.code == 0 || !strings.Contains(r.stderr, "optimized format") {
		h.t.Errorf("into a pool of another kind: exit %d, %s", r.code, r.stderr)
	}
	for n := range 2 {
		h.lxc("import", file, d, "--quiet")
		h.lxc("start", d)
		h.waitBooted(d)
		if got := h.lxc("exec", d, "--", "sh", "-c", look); got != strings.Replace(want, "one", "two", 1) {
			h.t.Errorf("after %d times it was\n%s\nand is\n%s", n+1, want, got)
		}
		h.lxc("restore", d, "s0")
		h.waitBooted(d)
		if got := h.lxc("exec", d, "--", "sh", "-c", look); got != want {
			h.t.Errorf("after %d times the snapshot was\n%s\nand is\n%s", n+1, want, got)
		}
		h.lxc("exec", d, "--", "sh", "-c", change)
		h.lxc("export", d, file, "--optimized-storage", "--quiet")
		h.lxc("delete", "--force", d)
	}
}

// TestBackupsGoToAndFro takes a container from LXD to us and back.
func TestBackupsGoToAndFro(t *testing.T) {
	j := newJudge(t)
	j.must(judgeClient, "storage", "create", "btr", "btrfs", "size=1GiB")
	t.Cleanup(func() { j.must(judgeClient, "storage", "delete", "btr") })
	h := newHost(t)
	h.setUp("btrfs")
	h.lxc("storage", "create", "plain", "dir")
	judged := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(judgeClient, args...)
		cmd.Env = j.environ("setup")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("lxc %s: %v", strings.Join(args, " "), err)
		}
		return string(out)
	}
	for _, pool := range []string{"default", "btr"} {
		c := h.name("c1")
		j.must(judgeClient, "init", "tiny", c, "-s", pool)
		j.must(judgeClient, "config", "device", "override", c, "eth0", "network="+j.bridge)
		j.must(judgeClient, "config", "device", "remove", c, "eth0")
		j.must(judgeClient, "config", "device", "add", c, "eth0", "none")
		j.must(judgeClient, "start", c)
		j.must(judgeClient, "exec", c, "--", "sh", "-c", fill)
		want := judged("exec", c, "--", "sh", "-c", look)
		j.must(judgeClient, "snapshot", c, "s0")
		j.must(judgeClient, "exec", c, "--", "sh", "-c", change)
		j.must(judgeClient, "stop", "--force", c)
		theirs, ours := filepath.Join(h.dir, "theirs.tar.gz"), filepath.Join(h.dir, "ours.tar.gz")
		j.must(judgeClient, "export", c, theirs, "--quiet")
		if pool == "btr" {
			opt := filepath.Join(h.dir, "opt.tar.gz")
			j.must(judgeClient, "export", c, opt, "--quiet", "--optimized-storage")
			h.lxc("import", opt)
			h.lxc("export", c, opt, "--optimized-storage")
			h.lxc("restore", c, "s0")
			h.lxc("start", c)
			h.waitBooted(c)
			if got := h.lxc("exec", c, "--", "sh", "-c", look); got != want {
				t.Errorf("optimized, it was\n%s\nand is\n%s", want, got)
			}
			h.lxc("delete", "--force", c)
			j.must(judgeClient, "delete", c)
			j.must(judgeClient, "import", opt, "--quiet", "--storage", pool)
			j.must(judgeClient, "start", c)
			if got := judged("exec", c, "--", "sh", "-c", look); got != strings.Replace(want, "one", "two", 1) {
				t.Errorf("optimized and back, it was\n%s\nand is\n%s", want, got)
			}
			j.must(judgeClient, "restore", c, "s0")
			if got := judged("exec", c, "--", "sh", "-c", look); got != want {
				t.Errorf("optimized and back, the snapshot was\n%s\nand is\n%s", want, got)
			}
			j.must(judgeClient, "stop", "--force", c)
		}
		j.must(judgeClient, "delete", c)
		for _, to := range []string{"default", "plain"} {
			h.lxc("import", theirs, "--storage", to)
			h.lxc("start", c)
			h.waitBooted(c)
			if got := h.lxc("exec", c, "--", "sh", "-c", look); got != strings.Replace(want, "one", "two", 1) {
				t.Errorf("from %s in %s: it was\n%s\nand is\n%s", pool, to, want, got)
			}
			h.lxc("restore", c, "s0")
			h.waitBooted(c)
			if got := h.lxc("exec", c, "--", "sh", "-c", look); got != want {
				t.Errorf("from %s in %s: the snapshot was\n%s\nand is\n%s", pool, to, want, got)
			}
			h.lxc("stop", "--force", c)
			h.lxc("export", c, ours)
			h.lxc("delete", c)
			j.must(judgeClient, "import", ours, "--storage", pool, "--quiet")
			j.must(judgeClient, "restore", c, "s0")
			j.must(judgeClient, "start", c)
			if got := judged("exec", c, "--", "sh", "-c", look); got != want {
				t.Errorf("back from %s in %s: it was\n%s\nand is\n%s", to, pool, want, got)
			}
			j.must(judgeClient, "delete", "--force", c)
		}
	}
}

// TestHostileBackupsHitThemselves imports archives that want to get out. What tar makes
// of them is its own; the host's files stay as they are.
func TestHostileBackupsHitThemselves(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.lxc("init", "tiny", c)
	good := filepath.Join(h.dir, "good.tar")
	h.lxc("export", c, good, "--compression", "none")
	h.lxc("delete", c)
	// A file that archives may reach if they reach anything, and one where it would be new.
	prey := filepath.Join(h.dir, "prey")
	if err := os.WriteFile(prey, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(h.dir, "fresh")
	up := strings.Repeat("../", 12)
	reg := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o666} }
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	for what, more := range map[string][]tar.Header{
		"absolute":            {reg(prey), reg(fresh)},
		"climbs":              {reg("backup/container/" + up + prey[1:])},
		"through a link":      {link("backup/container/out", h.dir), reg("backup/container/out/prey"), reg("backup/container/out/fresh")},
		"through a root":      {link("backup/container/rootfs/out", h.dir), reg("backup/container/rootfs/out/prey")},
		"hard link":           {{Name: "backup/container/rootfs/hard", Typeflag: tar.TypeLink, Linkname: prey}, reg("backup/container/rootfs/hard")},
		"hard link that goes": {{Name: "backup/container/rootfs/hard", Typeflag: tar.TypeLink, Linkname: "backup/container/" + up + prey[1:]}, reg("backup/container/rootfs/hard")},
		"rootfs is a link":    {link("backup/container/rootfs", h.dir)},
		"its own file":        {link("backup/container/backup.yaml", prey), link("backup/container/.backup.yaml", prey)},
		"metadata":            {link("backup/container/metadata.yaml", prey), link("backup/container/templates", h.dir)},
		"pipes":               {{Name: "backup/container/backup.yaml", Typeflag: tar.TypeFifo, Mode: 0o666}, {Name: "backup/container/rootfs/pipe", Typeflag: tar.TypeFifo, Mode: 0o666}},
		"devices": {{Name: "backup/container/backup.yaml", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 5},
			{Name: "backup/container/rootfs/disk", Typeflag: tar.TypeBlock, Mode: 0o666, Devmajor: 7}},
		"long names": {reg("backup/container/rootfs/" + strings.Repeat("n", 255)), reg("backup/container/rootfs/" + strings.Repeat("n", 300)),
			reg("backup/container/rootfs/" + strings.Repeat(strings.Repeat("d", 250)+"/", 20) + "f")},
	} {
		t.Run(what, func(t *testing.T) {
			bad := filepath.Join(h.dir, "bad.tar")
			withMore(t, good, bad, more)
			r := h.try("import", bad, c)
			if b, err := os.ReadFile(prey); err != nil || string(b) != "mine" {
				t.Errorf("the file on the host holds %q, %v", b, err)
			}
			if _, err := os.Lstat(fresh); err == nil {
				t.Error("a file has come to be on the host")
				os.Remove(fresh)
			}
			if r.code == 0 {
				h.lxc("start", c) // it is a container like any other
				h.lxc("delete", "--force", c)
			} else if strings.Count(r.stderr, "\n") > 2 {
				t.Errorf("it says %s", r.stderr)
			}
			h.noTraces(c)
		})
	}
	if left := h.spooled(); len(left) > 0 {
		t.Errorf("left in the folder of backups: %v", left)
	}
}

// withMore copies a tarball and puts entries behind what it holds.
func withMore(t *testing.T, from, to string, more []tar.Header) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	r := tar.NewReader(f)
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(hdr); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range more {
		text := ""
		if m.Typeflag == tar.TypeReg {
			text = "gotcha"
		}
		m.Size = int64(len(text))
		if err := w.WriteHeader(&m); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBackupsSurviveWhatGoesWrong(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			c, d := h.name("c1"), h.name("d1")
			h.lxc("init", "tiny", c)
			h.lxc("snapshot", c, "s0")
			// Large enough that there is time to get in between.
			h.lxc("start", c)
			h.waitBooted(c)
			h.lxc("exec", c, "--", "sh", "-c", "dd if=/dev/urandom of=/root/big bs=1M count=48 2>/dev/null; sync")
			h.lxc("stop", "--force", c)
			file := filepath.Join(h.dir, "b.tar")
			h.lxc("export", c, file, "--compression", "none")
			clean := func(what string) {
				t.Helper()
				if left := h.spooled(); len(left) > 0 {
					t.Errorf("%s: left in the folder of backups: %v", what, left)
				}
				if s := h.state(d); s != "" {
					t.Errorf("%s: %s is %s", what, d, s)
				}
				var backups []string
				h.get("/1.0/instances/"+c+"/backups", &backups)
				if len(backups) > 0 {
					t.Errorf("%s: backups %v", what, backups)
				}
				h.noTraces(d)
			}
			for n := 1; n <= 4; n++ {
				h.killWhile(time.Duration(n)*60*time.Millisecond, "export", c, "-", "--compression", "xz")
				clean(fmt.Sprintf("export killed at step %d", n))
				h.killWhile(time.Duration(n)*40*time.Millisecond, "import", file, d)
				if h.state(d) != "" { // it came through
					h.lxc("delete", d)
				}
				clean(fmt.Sprintf("import killed at step %d", n))
			}
			// A client that goes away in the middle of its upload.
			ctx, cancel := context.WithCancel(context.Background())
			r, w := io.Pipe()
			cmd := h.command(ctx, h.client, "import", "-", d)
			cmd.Env, cmd.Stdin, cmd.WaitDelay = h.environ(), r, time.Second
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			all, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			written := make(chan error, 1)
			go func() { _, err := w.Write(all[:len(all)/2]); written <- err }()
			h.eventually("upload to be on its way", func() bool { return len(h.spooled()) > 0 })
			select {
			case <-written:
			case <-time.After(patience):
				t.Error("the daemon does not take half a backup")
			}
			cancel()
			w.Close()
			r.Close()
			_ = cmd.Wait()
			h.eventually("half an upload to be gone", func() bool { return len(h.spooled()) == 0 })
			clean("client cut")
			// A pool that is full.
			if driver == "btrfs" {
				h.lxc("storage", "create", "small", "btrfs", "size=128MiB")
				if r := h.try("import", file, d, "--storage", "small"); r.code == 0 {
					h.lxc("delete", d)
					for n := range 3 {
						if r = h.try("import", file, fmt.Sprint(d, n), "--storage", "small"); r.code != 0 {
							break
						}
					}
					if r.code == 0 || !strings.Contains(r.stderr, "full") {
						t.Errorf("a full pool: exit %d, %s", r.code, r.stderr)
					}
					for n := range 3 {
						h.try("delete", fmt.Sprint(d, n))
					}
				} else if !strings.Contains(r.stderr, "full") {
					t.Errorf("a full pool: %s", r.stderr)
				}
				clean("full pool")
			}
			h.lxc("import", file, d)
			h.lxc("start", d)
			h.waitBooted(d)
		})
	}
}

// TestRecoverAfterTheDatabaseIsLost leaves the daemon nothing but its pools; one of the
// containers goes on running all the while.
func TestRecoverAfterTheDatabaseIsLost(t *testing.T) {
	h := newHost(t)
	h.setUp("btrfs")
	h.lxc("storage", "create", "plain", "dir")
	h.lxc("profile", "create", "extra")
	c, d := h.name("c1"), h.name("d1")
	h.launch(c)
	h.lxc("init", "tiny", d, "--storage", "plain", "-p", "default", "-p", "extra")
	h.lxc("exec", c, "--", "sh", "-c", fill)
	want := h.lxc("exec", c, "--", "sh", "-c", look)
	h.lxc("snapshot", c, "s0")
	h.lxc("config", "set", d, "user.a=1")
	h.lxc("exec", c, "--", "sh", "-c", change)
	pid := h.initPID(c)
	// Written a moment after the change.
	h.eventually("backup.yaml to say all", func() bool {
		a, _ := os.ReadFile(filepath.Join(h.lxdDir(), "storage-pools", "plain", "containers", d, "backup.yaml"))
		b, _ := os.ReadFile(filepath.Join(h.lxdDir(), "storage-pools", "default", "containers", c, "backup.yaml"))
		return strings.Contains(string(a), `user.a: "1"`) && strings.Contains(string(b), "name: s0") && strings.Contains(string(b), "idmap.current")
	})
	h.stop(syscall.SIGKILL)
	if err := os.RemoveAll(filepath.Join(h.lxdDir(), "database")); err != nil {
		t.Fatal(err)
	}
	h.start()
	if got := h.lxc("list", "--format", "csv"); got != "" {
		t.Fatalf("the database was not lost: %s", got)
	}
	// The files of images stay, for a database that is put back.
	images := filepath.Join(h.lxdDir(), "images")
	if len(dirNames(images)) == 0 {
		t.Error("the images went with the database")
	}
	if err := os.RemoveAll(images); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(images, 0o700); err != nil {
		t.Fatal(err)
	}
	disks, pools := filepath.Join(h.lxdDir(), "disks"), filepath.Join(h.lxdDir(), "storage-pools")
	answers := "yes\ndefault\nbtrfs\n" + disks + "/default.img\n\nyes\nplain\ndir\n" + pools + "/plain\n\nno\nyes\n"
	r := h.runIn(strings.NewReader(answers), h.bin.lxd(), "recover")
	for _, say := range []string{
		` - NEW: "plain" (backend="dir"`, fmt.Sprintf("Container %q on pool %q in project %q (includes 1 snapshots)", c, "default", "default"),
		`Profile "extra" in project "default"`, fmt.Sprintf("Container %q on pool %q", d, "plain"),
	} {
		if !strings.Contains(r.stdout, say) {
			t.Errorf("it does not say %s", say)
		}
	}
	if r.code == 0 || t.Failed() {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	h.lxc("profile", "create", "extra")
	// The bridge is there, but its record is lost.
	if out, err := exec.Command("ip", "link", "delete", h.bridge()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h.lxc("network", "create", h.bridge())
	r = h.runIn(strings.NewReader(answers+"yes\n"), h.bin.lxd(), "recover")
	if r.code != 0 {
		t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if s := h.state(c); s != "RUNNING" || h.initPID(c) != pid {
		t.Errorf("%s is %s", c, s)
	}
	if got := h.lxc("exec", c, "--", "sh", "-c", look); got != strings.Replace(want, "one", "two", 1) {
		t.Errorf("it was\n%s\nand is\n%s", want, got)
	}
	h.lxc("restore", c, "s0")
	h.waitBooted(c)
	if got := h.lxc("exec", c, "--", "sh", "-c", look); got != want {
		t.Errorf("the snapshot was\n%s\nand is\n%s", want, got)
	}
	if got := strings.TrimSpace(h.lxc("config", "get", d, "user.a")); got != "1" {
		t.Errorf("user.a is %q", got)
	}
	h.lxc("start", d)
	h.waitBooted(d)
	if r = h.runIn(strings.NewReader("no\nyes\n"), h.bin.lxd(), "recover"); r.code != 0 || !strings.Contains(r.stdout, "No unknown volumes found. Nothing to do.") {
		t.Errorf("once more: exit %d\n%s", r.code, r.stdout)
	}
}

// TestImportsKeepToTheSizeOfTheirDisk: neither the volume nor a snapshot may be larger, in
// either format; what does not fit leaves nothing.
func TestImportsKeepToTheSizeOfTheirDisk(t *testing.T) {
	h := newHost(t)
	h.setUp("btrfs")
	c, d := h.name("c1"), h.name("d1")
	h.launch(c)
	h.lxc("exec", c, "--", "sh", "-c", "dd if=/dev/urandom of=/root/big bs=1M count=48 2>/dev/null; sync")
	h.lxc("snapshot", c, "s0")
	files := map[string]string{}
	export := func(what string, args ...string) {
		t.Helper()
		files[what] = filepath.Join(h.dir, strings.ReplaceAll(what, " ", "-")+".tar.gz")
		h.lxc(append([]string{"export", c, files[what], "--quiet", "--compression", "zstd"}, args...)...)
	}
	export("volume", "--instance-only")
	export("volume as a stream", "--instance-only", "--optimized-storage")
	h.lxc("exec", c, "--", "sh", "-c", "rm /root/big; sync")
	export("snapshot")
	export("snapshot as a stream", "--optimized-storage")
	h.lxc("stop", "--force", c)
	h.lxc("storage", "set", "default", "volume.size=24MiB")
	for what, file := range files {
		if r := h.try("import", file, d); r.code == 0 || !strings.Contains(r.stderr, "larger than the size limit of its root disk") {
			t.Errorf("%s: exit %d, %s", what, r.code, r.stderr)
		}
		if s := h.state(d); s != "" {
			t.Errorf("%s: %s is %s", what, d, s)
		}
		h.noTraces(d)
	}
	h.lxc("storage", "set", "default", "volume.size=96MiB")
	for what, file := range files {
		h.lxc("import", file, d)
		h.lxc("start", d)
		h.waitBooted(d)
		if r := h.try("exec", d, "--", "dd", "if=/dev/urandom", "of=/root/more", "bs=1M", "count=100"); r.code == 0 {
			t.Errorf("%s: the limit does not hold afterwards", what)
		}
		h.lxc("delete", "--force", d)
	}
}

// TestSnapshotsOfAnyNameComeBack: what means something to tar does so in no name.
func TestSnapshotsOfAnyNameComeBack(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.lxc("init", "tiny", c)
	names := []string{`a\tb`, `a\`, "b*", "[a-z]", "--x", "c d"}
	for _, n := range names {
		h.lxc("query", "--wait", "-X", "POST", "-d", fmt.Sprintf(`{"name": %q}`, n), "/1.0/instances/"+c+"/snapshots")
	}
	file := filepath.Join(h.dir, "b.tar")
	h.lxc("export", c, file, "--quiet", "--compression", "none")
	h.lxc("delete", c)
	h.lxc("import", file)
	for _, n := range names {
		if _, err := os.Lstat(filepath.Join(h.lxdDir(), "snapshots", c, n, "rootfs", "bin")); err != nil {
			t.Error(err)
		}
	}
	h.lxc("delete", c)
}
