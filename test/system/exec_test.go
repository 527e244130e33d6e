//go:build system

package system

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/shared/api"
)

// execution is a command begun over the API, with the secrets of its streams.
type execution struct {
	h   *host
	id  string
	fds map[string]string
}

// begin asks for a command; more is what else the request says.
func (h *host) exec(c string, more map[string]any, command ...string) (*execution, error) {
	body := map[string]any{"command": command}
	for k, v := range more {
		body[k] = v
	}
	code, a := h.request("POST", "/1.0/instances/"+c+"/exec", body)
	if code != 202 {
		return nil, fmt.Errorf("%d %s", code, a.Error)
	}
	var o api.Operation
	if err := json.Unmarshal(a.Metadata, &o); err != nil {
		return nil, err
	}
	x := &execution{h: h, id: o.ID, fds: map[string]string{}}
	if fds, ok := o.Metadata["fds"].(map[string]any); ok {
		for fd, s := range fds {
			x.fds[fd], _ = s.(string)
		}
	}
	return x, nil
}

func (x *execution) dial(fd string) (*websocket.Conn, error) {
	d := websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", x.h.socket())
	}}
	c, _, err := d.Dial("ws://unix/1.0/operations/"+x.id+"/websocket?secret="+x.fds[fd], nil)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", fd, err)
	}
	return c, nil
}

// wait returns the exit status.
func (x *execution) wait() (int, error) {
	code, a := x.h.request("GET", "/1.0/operations/"+x.id+"/wait", nil)
	if code != 200 {
		return 0, fmt.Errorf("%d %s", code, a.Error)
	}
	var o api.Operation
	if err := json.Unmarshal(a.Metadata, &o); err != nil {
		return 0, err
	}
	n, ok := o.Metadata["return"].(float64)
	if !ok {
		return 0, fmt.Errorf("no exit status; %s", o.Err)
	}
	return int(n), nil
}

// sayings reads a stream until its end, or until it is cut.
func sayings(c *websocket.Conn) string {
	var b strings.Builder
	for {
		typ, r, err := c.NextReader()
		if err != nil || typ == websocket.TextMessage {
			return b.String()
		}
		if _, err := io.Copy(&b, r); err != nil {
			return b.String()
		}
	}
}

// The ways in which clients treat commands.
var treatments = []func(h *host, c string, n int) error{
	// To its end.
	func(h *host, c string, n int) error {
		x, err := h.exec(c, map[string]any{"wait-for-websocket": true}, "sh", "-c", fmt.Sprintf("read x; echo $x; exit %d", n%100))
		if err != nil {
			return err
		}
		conns := map[string]*websocket.Conn{}
		for _, fd := range []string{"control", "0", "1", "2"} {
			if conns[fd], err = x.dial(fd); err != nil {
				return err
			}
			defer conns[fd].Close()
		}
		if err := conns["0"].WriteMessage(websocket.BinaryMessage, fmt.Appendf(nil, "line %d\n", n)); err != nil {
			return err
		}
		if got, want := sayings(conns["1"]), fmt.Sprintf("line %d\n", n); got != want {
			return fmt.Errorf("it said %q, not %q", got, want)
		}
		if code, err := x.wait(); err != nil || code != n%100 {
			return fmt.Errorf("it ended with %d, %w", code, err)
		}
		return nil
	},
	// On a terminal, to its end.
	func(h *host, c string, n int) error {
		x, err := h.exec(c, map[string]any{"wait-for-websocket": true, "interactive": true}, "sh", "-c", fmt.Sprintf("tty; exit %d", n%100))
		if err != nil {
			return err
		}
		conn, err := x.dial("0")
		if err != nil {
			return err
		}
		defer conn.Close()
		if got := sayings(conn); !strings.HasPrefix(got, "/dev/pts/") {
			return fmt.Errorf("its terminal is %q", got)
		}
		if code, err := x.wait(); err != nil || code != n%100 {
			return fmt.Errorf("it ended with %d, %w", code, err)
		}
		return nil
	},
	// The client is cut off in the middle of a stream.
	func(h *host, c string, n int) error {
		x, err := h.exec(c, map[string]any{"wait-for-websocket": true}, "cat", "/dev/zero")
		if err != nil {
			return err
		}
		var conns []*websocket.Conn
		for _, fd := range []string{"control", "0", "1", "2"} {
			conn, err := x.dial(fd)
			if err != nil {
				return err
			}
			conns = append(conns, conn)
		}
		_, _, err = conns[2].NextReader()
		for _, conn := range conns {
			_ = conn.NetConn().Close()
		}
		return err
	},
	// The same on a terminal.
	func(h *host, c string, n int) error {
		x, err := h.exec(c, map[string]any{"wait-for-websocket": true, "interactive": true}, "sh", "-c", "echo here; sleep 1000")
		if err != nil {
			return err
		}
		conn, err := x.dial("0")
		if err != nil {
			return err
		}
		_, _, err = conn.NextReader()
		_ = conn.NetConn().Close()
		return err
	},
	// The client opens some of its streams and no more.
	func(h *host, c string, n int) error {
		x, err := h.exec(c, map[string]any{"wait-for-websocket": true}, "sleep", "1000")
		if err != nil {
			return err
		}
		conn, err := x.dial("1")
		if err != nil {
			return err
		}
		return conn.Close()
	},
	// Nobody listens.
	func(h *host, c string, n int) error {
		x, err := h.exec(c, map[string]any{"record-output": n%2 == 0}, "sh", "-c", fmt.Sprintf("echo %d; exit %d", n, n%100))
		if err != nil {
			return err
		}
		if code, err := x.wait(); err != nil || code != n%100 {
			return fmt.Errorf("it ended with %d, %w", code, err)
		}
		return nil
	},
}

// held is what the daemon has open and what runs for it.
type held struct{ fds, children, inside int }

func (h *host) held(init int) held {
	h.t.Helper()
	dir := "/proc/" + strconv.Itoa(h.pid())
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		h.t.Fatal(err)
	}
	out := held{fds: len(fds)}
	tasks, err := filepath.Glob(dir + "/task/*/children")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		out.children += len(strings.Fields(string(b)))
	}
	// The processes of the guest: those of its pid namespace.
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		h.t.Fatal(err)
	}
	all, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, p := range all {
		if ns, err := os.Readlink(p); err == nil && ns == want {
			out.inside++
		}
	}
	return out
}

func TestHundredsOfCommandsLeaveNothing(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c)
	h.waitBooted(c)
	init := h.initPID(c)
	many := func(sessions int) {
		t.Helper()
		var wg sync.WaitGroup
		for n := range sessions {
			wg.Go(func() {
				if err := treatments[n%len(treatments)](h, c, n); err != nil {
					t.Errorf("command %d, treatment %d: %v", n, n%len(treatments), err)
				}
			})
		}
		wg.Wait()
	}
	running := func() bool {
		var ops map[string][]string
		h.get("/1.0/operations", &ops)
		return len(ops["running"]) > 0
	}
	settled := func() held {
		t.Helper()
		h.eventually("the end of all commands", func() bool { return !running() })
		last := h.held(init)
		// What has ended is put away a moment later.
		same := time.Now()
		h.eventually("a daemon at rest", func() bool {
			now := h.held(init)
			if now != last {
				last, same = now, time.Now()
			}
			return time.Since(same) > time.Second
		})
		return last
	}
	many(len(treatments)) // what is made for the first command stays for the others
	before := settled()
	many(300)
	if after := settled(); after.fds > before.fds || after.children != before.children || after.inside != before.inside {
		t.Errorf("300 commands left %+v of what was %+v", after, before)
	}
}

func TestCommandsThatCannotRunSayWhy(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c)
	for _, x := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--", "no-such"}, 127, "Command not found"},
		{[]string{"--", "/etc"}, 126, "Command not executable"},
		{[]string{"--cwd", "/no/such", "--", "pwd"}, 127, `"/no/such"`},
		{[]string{"--cwd", "/etc/passwd", "--", "pwd"}, 127, `"/etc/passwd"`},
		// A folder that the command's user may not enter is entered for it.
		{[]string{"--cwd", "/root", "--user", "1000", "--", "sh", "-c", "test $(pwd) = /root && ! ls"}, 0, "ermission denied"},
		{[]string{"--user", "4294967294", "--", "id"}, 126, "4294967294"},
		{[]string{"--", "sh", "-c", "kill -9 $$"}, 137, ""},
	} {
		for name, client := range fileClients(h) {
			r := h.runIn(strings.NewReader(""), client, append([]string{"exec", c}, x.args...)...)
			if r.code != x.code || !strings.Contains(r.stderr, x.says) {
				t.Errorf("%v with %s client: %d, %q", x.args, name, r.code, r.stderr)
			}
		}
	}
}
