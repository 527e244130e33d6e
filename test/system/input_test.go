//go:build system

package system

import (
	"net/http"
	"strings"
	"testing"
)

// badRequest is what a client should not send, and the code of the answer. unlike says
// why LXD answers with another one.
type badRequest struct {
	what, method, path string
	body               any
	code               int
	unlike             string
}

// badInput needs a running instance and a bridge.
func badInput(c, bridge, token string) []badRequest {
	type obj = map[string]any
	tiny := obj{"type": "image", "alias": "tiny"}
	return []badRequest{
		{"no such path", "GET", "/1.0/nonsense", nil, 404, ""},
		{"no such version", "GET", "/2.0", nil, 404, ""},
		{"no such instance", "GET", "/1.0/instances/nobody", nil, 404, ""},
		{"wrong method", "DELETE", "/1.0/instances", nil, 501, ""},
		{"not JSON", "POST", "/1.0/instances", "{", 400, ""},
		{"wrong types", "POST", "/1.0/instances", `{"name": 7}`, 400, ""},
		{"empty name of a pool", "POST", "/1.0/storage-pools", obj{"driver": "dir"}, 400, ""},
		{"name with a slash", "POST", "/1.0/instances", obj{"name": "a/b", "source": tiny}, 400, ""},
		{"name with dots", "POST", "/1.0/instances", obj{"name": "../../etc", "source": tiny}, 400, ""},
		{"name that starts with a digit", "POST", "/1.0/instances", obj{"name": "1a", "source": tiny}, 400, ""},
		{"name that is too long", "POST", "/1.0/instances", obj{"name": strings.Repeat("a", 64), "source": tiny}, 400, ""},
		{"unknown key", "POST", "/1.0/instances", obj{"name": "x-" + token, "source": tiny, "config": obj{"no.such": "1"}}, 400, "LXD finds out in the operation"},
		{"wrong value", "POST", "/1.0/instances", obj{"name": "x-" + token, "source": tiny, "config": obj{"limits.memory": "much"}}, 400, "LXD finds out in the operation"},
		{"unknown profile", "POST", "/1.0/instances", obj{"name": "x-" + token, "source": tiny, "profiles": []string{"none-such"}}, 404, "LXD takes it for a fault of its own"},
		{"name in use", "POST", "/1.0/instances", obj{"name": c, "source": tiny}, 409, "LXD finds out in the operation"},
		{"unknown state", "PUT", "/1.0/instances/" + c + "/state", obj{"action": "explode"}, 400, ""},
		{"exec of nothing", "POST", "/1.0/instances/" + c + "/exec", obj{"command": []string{}}, 400, "LXD finds out in the operation"},
		{"stale ETag is refused elsewhere; wrong body here", "PUT", "/1.0/profiles/default", `[]`, 400, ""},
		{"network with a taken name", "POST", "/1.0/networks", obj{"name": bridge, "type": "bridge"}, 409, "LXD calls it a wrong request"},
		{"network with a name that is too long", "POST", "/1.0/networks", obj{"name": "abcdefghijklmnopq", "type": "bridge"}, 400, ""},
		{"network with a wrong address", "POST", "/1.0/networks", obj{"name": "x" + token, "type": "bridge", "config": obj{"ipv4.address": "10.0.0.300/24"}}, 400, "LXD takes it for a fault of its own"},
		{"pool with an unknown driver", "POST", "/1.0/storage-pools", obj{"name": "p2", "driver": "floppy"}, 400, "LXD takes it for a fault of its own"},
		{"delete of a pool in use", "DELETE", "/1.0/storage-pools/default", nil, 400, ""},
		{"delete of a network in use", "DELETE", "/1.0/networks/" + bridge, nil, 400, ""},
		{"delete of the default profile", "DELETE", "/1.0/profiles/default", nil, 403, ""},
		{"no such operation", "GET", "/1.0/operations/6b8a6f40-0000-0000-0000-000000000000", nil, 404, ""},
		{"unknown filter", "GET", "/1.0/instances?filter=this+is+not+one", nil, 400, "LXD takes it for a fault of its own"},
		{"image that is no archive", "POST", "/1.0/images", "hello, this is no archive", 400, "LXD breaks the connection off"},
		{"image of no source", "POST", "/1.0/images", "{}", 400, "LXD breaks the connection off"},
		{"image of a cut archive", "POST", "/1.0/images", "\x1f\x8b\x08\x00\x00\x00", 400, "LXD breaks the connection off"},
		{"network for a device that is none", "PATCH", "/1.0/instances/" + c, obj{"devices": obj{"eth5": obj{"type": "nic", "network": "none-such"}}}, 404, ""},
		{"disk that is not there", "PATCH", "/1.0/instances/" + c, obj{"devices": obj{"d": obj{"type": "disk", "path": "/x", "source": "/none-such"}}}, 400, "LXD takes it for a fault of its own"},
		{"type of instance that is none", "GET", "/1.0/instances?instance-type=zz", nil, 400, "LXD takes it for a fault of its own"},
		{"project that is none", "GET", "/1.0/instances?project=none-such", nil, 404, "LXD gives an empty list"},
		{"key of the server that is none", "PATCH", "/1.0", obj{"config": obj{"no.such": "1"}}, 400, ""},
		{"delete of an instance that runs", "DELETE", "/1.0/instances/" + c, nil, 400, ""},
		{"rename of an instance that runs", "POST", "/1.0/instances/" + c, obj{"name": "x-" + token}, 400, ""},
		{"a body of 20 MB", "POST", "/1.0/profiles", `{"description":"` + strings.Repeat("x", 20<<20) + `"}`, 413, "LXD has no word for it but a wrong request"},
	}
}

// TestBadInputGetsOneSentence sends what clients should not, over the bare API.
func TestBadInputGetsOneSentence(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c)
	for _, q := range badInput(c, h.bridge(), h.token) {
		code, a := h.request(q.method, q.path, q.body)
		if code == http.StatusAccepted {
			// What only the work itself can find out is told by its operation.
			var o struct {
				Code int    `json:"status_code"`
				Err  string `json:"err"`
			}
			h.get(a.Operation+"/wait?timeout=30", &o)
			if o.Code != 400 || o.Err == "" || strings.Contains(o.Err, "\n") {
				t.Errorf("%s: the operation ended with %+v", q.what, o)
			}
			continue
		}
		if code != q.code {
			t.Errorf("%s: %d (%s), want %d", q.what, code, a.Error, q.code)
		}
		if a.Type != "error" || a.ErrorCode != code || a.Error == "" || strings.Contains(a.Error, "\n") {
			t.Errorf("%s: the answer is no plain error: %+v", q.what, a)
		}
	}
	if code, _ := h.request("GET", "/1.0/instances/"+c, nil); code != http.StatusOK {
		t.Errorf("after all that the instance gives %d", code)
	}
	if out := h.lxc("list", "--format", "csv", "--columns", "n"); strings.TrimSpace(out) != c {
		t.Errorf("instances now: %q", out)
	}
	for _, n := range []string{"image", "missing-image"} {
		if r := h.try("launch", "no-such-"+n, h.name("y")); r.code == 0 || !strings.HasPrefix(r.stderr, "Error: ") {
			t.Errorf("launch without an image: exit %d, %q", r.code, r.stderr)
		}
	}
	if r := h.try("launch", "tiny", h.name("vm"), "--vm"); r.code == 0 || h.state(h.name("vm")) != "" {
		t.Errorf("launch --vm: exit %d, %q", r.code, r.stderr)
	}
}
