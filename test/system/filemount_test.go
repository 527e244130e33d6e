//go:build system

package system

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// fileMount runs "lxc file mount" with a listener of its own and returns a client of it.
// end stops the command, which must have been content.
func (h *host) fileMount(client, c string) (fs *sftp.Client, end func()) {
	h.t.Helper()
	t := h.t
	cmd := h.command(context.Background(), client, "file", "mount", c, "--listen", "127.0.0.1:0", "--auth-user", "somebody")
	cmd.Env = h.environ()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address, password := "", ""
	lines := bufio.NewScanner(out)
	for (address == "" || password == "") && lines.Scan() {
		if _, a, ok := strings.Cut(lines.Text(), "listening on "); ok {
			address = a
		}
		if _, p, ok := strings.Cut(lines.Text(), "password \""); ok {
			password = strings.TrimSuffix(p, "\"")
		}
	}
	dial := func(password string) (*ssh.Client, error) {
		return ssh.Dial("tcp", address, &ssh.ClientConfig{User: "somebody", Auth: []ssh.AuthMethod{ssh.Password(password)},
			HostKeyCallback: ssh.InsecureIgnoreHostKey()}) // made for this one run
	}
	if s, err := dial("guessed"); err == nil {
		_ = s.Close()
		t.Error("somebody without the password was let in")
	}
	s, err := dial(password)
	if err != nil {
		t.Fatal(err)
	}
	if fs, err = sftp.NewClient(s); err != nil {
		t.Fatal(err)
	}
	return fs, func() {
		t.Helper()
		_, _ = fs.Close(), s.Close()
		_ = cmd.Process.Signal(os.Interrupt)
		err := cmd.Wait()
		// LXD's dies of the signal.
		if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err != nil && (client == h.bin.lxc() || !ok || !ws.Signaled()) {
			t.Errorf("lxc file mount ended with %v", err)
		}
	}
}

func TestFileMountServesTheGuestsOwnTree(t *testing.T) {
	h := newHost(t)
	h.setUp("btrfs")
	c := h.name("m")
	h.launch(c)
	h.lxc("exec", c, "--", "ln", "-s", "/etc/passwd", "/root/users")
	h.lxc("exec", c, "--", "sh", "-c", "echo guest >/etc/passwd; mkfifo /root/fifo")
	if r := h.try("file", "mount", c+"/root", "--listen", "127.0.0.1:0"); r.code == 0 || !strings.Contains(r.stderr, "leave /root away") {
		t.Errorf("a listener for a part of the tree: %d %s", r.code, r.stderr)
	}
	for _, state := range []string{"running", "stopped"} {
		if state == "stopped" {
			h.lxc("stop", "-f", c)
		}
		for name, client := range fileClients(h) {
			fs, end := h.fileMount(client, c)
			f, err := fs.OpenFile("/root/new", os.O_CREATE|os.O_EXCL|os.O_WRONLY)
			if err != nil {
				t.Fatalf("%s client, %s: %v", name, state, err)
			}
			if _, err := io.WriteString(f, "text"); err != nil || f.Close() != nil {
				t.Errorf("%s client, %s: write: %v", name, state, err)
			}
			for _, err := range []error{ // in this order
				fs.Chmod("/root/new", 0o640), fs.Chown("/root/new", 5, 6), fs.PosixRename("/root/new", "/root/moved"),
				fs.Symlink("moved", "/root/link"), fs.Mkdir("/root/d"),
			} {
				if err != nil {
					t.Errorf("%s client, %s: change: %v", name, state, err)
				}
			}
			hd := h.headers("/1.0/instances/" + c + "/files?path=/root/moved")
			if hd.Get("X-LXD-uid") != "5" || hd.Get("X-LXD-gid") != "6" || hd.Get("X-LXD-mode") != "0640" {
				t.Errorf("%s client, %s: the new file is %v", name, state, hd)
			}
			for path, want := range map[string]string{"/root/link": "text", "/root/users": "guest\n"} {
				f, err := fs.Open(path)
				if err != nil {
					t.Errorf("%s client, %s: %s: %v", name, state, path, err)
					continue
				}
				if b, err := io.ReadAll(f); err != nil || string(b) != want {
					t.Errorf("%s client, %s: %s says %q, %v", name, state, path, b, err)
				}
				_ = f.Close()
			}
			if _, err := fs.Open("/root/fifo"); err == nil {
				t.Errorf("%s client, %s: a FIFO was opened", name, state)
			}
			es, err := fs.ReadDir("/root")
			if err != nil || len(es) < 5 {
				t.Errorf("%s client, %s: /root has %v, %v", name, state, es, err)
			}
			for _, err := range []error{fs.Remove("/root/link"), fs.Remove("/root/moved"), fs.RemoveDirectory("/root/d")} {
				if err != nil {
					t.Errorf("%s client, %s: remove: %v", name, state, err)
				}
			}
			end()
		}
	}
	// A stop does not wait for who looks at the files.
	h.lxc("start", c)
	h.waitBooted(c)
	fs, _ := h.fileMount(h.bin.lxc(), c)
	h.lxc("stop", "-f", c)
	if _, err := fs.ReadDir("/"); err == nil {
		t.Error("files are served after the stop")
	}
	h.lxc("delete", c)
}
