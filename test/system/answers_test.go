//go:build system

package system

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/shared/api"
	"sett/shared/keypair"
	"sett/test/lib/tinyimage"
)

// exchange is a request that both daemons get. Names in capital letters stand for what
// differs between them.
type exchange struct {
	method, path string
	body         any
	header       http.Header
	unlike       string // why LXD answers otherwise; nothing is compared then
}

// ifMatch is the header with which a change is asked for of something as it was.
func ifMatch(etag string) http.Header { return http.Header{"If-Match": {etag}} }

// party is one of the daemons that the requests are put to.
type party struct {
	t      *testing.T
	socket string
	names  []string          // from what both are told to what this one has
	same   *strings.Replacer // and back
	last   string            // operation
	mu     sync.Mutex
	events []string
}

func (p *party) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", p.socket)
}

// listen collects the lifecycle events until the test ends, and the ends of operations.
func (p *party) listen() {
	p.t.Helper()
	d := websocket.Dialer{NetDialContext: p.dial}
	conn, resp, err := d.Dial("ws://unix/1.0/events?type=lifecycle,operation", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = resp.Body.Close()
	ended := make(chan struct{})
	p.t.Cleanup(func() { _ = conn.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			var e api.Event
			if conn.ReadJSON(&e) != nil {
				return
			}
			if s := p.told(e); s != "" {
				p.mu.Lock()
				p.events = append(p.events, s)
				p.mu.Unlock()
			}
		}
	}()
}

// told is what of an event is the same for both.
func (p *party) told(e api.Event) string {
	if e.Type == api.EventTypeOperation {
		var o api.Operation
		if err := json.Unmarshal(e.Metadata, &o); err != nil {
			return err.Error()
		}
		if !o.StatusCode.IsFinal() {
			return ""
		}
		return p.common(fmt.Sprintf("%s %q %s in project %q at %q", o.Class, o.Description, o.Status, e.Project, e.Location))
	}
	var l api.EventLifecycle
	if err := json.Unmarshal(e.Metadata, &l); err != nil {
		return err.Error()
	}
	// LXD says only of some who asked.
	return p.common(fmt.Sprintf("%s of %s in project %q at %q with %q", l.Action, l.Source, e.Project, e.Location, slices.Sorted(maps.Keys(l.Context))))
}

// common replaces what differs from daemon to daemon and from run to run.
func (p *party) common(s string) string {
	s = p.same.Replace(s)
	for _, r := range []struct{ re, to string }{
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "UUID"},
		{`20\d\d-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`, "TIME"},
		{`[0-9a-f]{64}`, "SUM"},
	} {
		s = regexp.MustCompile(r.re).ReplaceAllString(s, r.to)
	}
	return s
}

// byValue are the fields that are compared by what they hold, not only by their type.
var byValue = []string{"/status", "/status_code", "/class", "/description", "/type", "/location", "/project", "/name", "/managed", "/ephemeral", "/stateful",
	"/architecture", "/driver", "/content_type", "/public", "/auto_update", "/cached", "/profiles[]", "/restricted", "/auth", "/api_status", "/expires_at", "/filename"}

// shape lists the fields of an answer with their types.
func shape(text json.RawMessage, at string, out *[]string) {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		*out = append(*out, at+" "+err.Error())
		return
	}
	shapeOf(v, at, out)
	slices.Sort(*out)
	*out = slices.Compact(*out)
}

func shapeOf(v any, at string, out *[]string) {
	say := func(kind string, val any) {
		for _, f := range byValue {
			if strings.HasSuffix(at, f) {
				kind = fmt.Sprintf("%#v", val)
			}
		}
		*out = append(*out, at+" "+kind)
	}
	switch v := v.(type) {
	case nil:
		say("null", v)
	case bool:
		say("bool", v)
	case float64:
		say("number", v)
	case string:
		if strings.HasSuffix(at, "/err") { // in other words
			v = strings.Repeat("an error", min(len(v), 1))
			*out = append(*out, at+" "+v)
			return
		}
		say("string", v)
	case []any:
		if len(v) == 0 {
			say("empty list", "empty list")
		}
		for _, e := range v {
			shapeOf(e, at+"[]", out)
		}
	case map[string]any:
		if len(v) == 0 {
			say("empty object", "empty object")
		}
		for k, e := range v {
			shapeOf(e, at+"/"+k, out)
		}
	}
}

// here puts what this one has in the place of names.
func (p *party) here(s string) string {
	return strings.NewReplacer(append(p.names, "OPERATION", p.last)...).Replace(s)
}

// put sends a request and lists what is to be alike about its answer, that of the
// operation that it begins included.
func (p *party) put(x exchange) (lines []string) {
	p.t.Helper()
	var r io.Reader
	switch b := x.body.(type) {
	case nil:
	case string:
		r = strings.NewReader(p.here(b))
	default:
		j, err := json.Marshal(b)
		if err != nil {
			p.t.Fatal(err)
		}
		r = strings.NewReader(p.here(string(j)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, x.method, "http://unix"+p.here(x.path), r)
	if err != nil {
		p.t.Fatal(err)
	}
	for k, v := range x.header {
		req.Header[k] = v
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: p.dial}}
	resp, err := c.Do(req)
	if err != nil {
		return []string{"no answer: " + err.Error()}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return []string{"half an answer: " + err.Error()}
	}
	lines = append(lines, fmt.Sprintf("status %d", resp.StatusCode))
	for _, k := range []string{"Content-Type", "Location", "Content-Disposition", "X-LXD-type", "X-LXD-mode", "X-LXD-uid", "X-LXD-gid"} {
		v := resp.Header.Get(k)
		v, _, _ = strings.Cut(v, "boundary=")
		lines = append(lines, k+" "+p.common(v))
	}
	lines = append(lines, fmt.Sprint("ETag ", resp.Header.Get("ETag") != ""), fmt.Sprint("X-LXD-modified ", resp.Header.Get("X-LXD-modified") != ""))
	if resp.Header.Get("Content-Type") != "application/json" {
		return append(lines, fmt.Sprintf("%d bytes", len(text)))
	}
	var a struct {
		answer
		Status string `json:"status"`
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return append(lines, err.Error())
	}
	lines = append(lines, fmt.Sprintf("%s %q %d %d, error %v, operation %v, ends with %q", a.Type, a.Status, a.Code, a.ErrorCode, a.Error != "", a.Operation != "",
		text[len(bytes.TrimRight(text, "\n")):]))
	md := json.RawMessage(p.common(string(a.Metadata)))
	if resp.StatusCode != http.StatusAccepted {
		shape(md, "", &lines)
		return lines
	}
	var began []string
	shape(md, "", &began)
	lines = append(lines, began...)
	p.last = a.Operation
	if slices.Contains(began, `/class "token"`) || slices.Contains(began, `/class "websocket"`) {
		return lines // does not end by itself
	}
	_, w := ask(p.t, p.socket, "GET", a.Operation+"/wait?timeout=30", nil)
	var after []string
	shape(json.RawMessage(p.common(string(w.Metadata))), "after", &after)
	return append(lines, after...)
}

// less gives what is in a and not in b.
func less(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// more are fields that we answer with and LXD does not: those of API extensions that came
// after it or are our own, and those that it has for some operations only.
var more = regexp.MustCompile(`^(after|/(success|failure|running)\[\])?/(requestor/|ended_at |log\[\]|may_cancel |metadata/fingerprint |metadata/.*progress|resources/(backups|instances|containers)\[\] )`)

// fewer are fields with which LXD tells how far something is that we are not at, or that
// it has under a wrong name.
var fewer = regexp.MustCompile(`^(after)?/(may_cancel |metadata/.*progress|metadata/progress/|metadata null|resources/container\[\] )`)

// unheard are events that only one of both tells of: LXD's own tasks, its names that are
// escaped twice, its logs that lie among backups, what it says nothing of, and what follows from the requests that it
// answers otherwise.
var unheard = regexp.MustCompile(`instance-log-retrieved|a%252Fl|a%2Fl|instance-console-retrieved|instance-snapshot-updated|storage-pool-created .*\["driver"\]|storage-pool-created .*\[\]|` +
	`network-created .*\[("type")?\]|^task "(Cleaning|Expiring|Pruning|Updating|Restoring|Renaming)`)

// TestAnswersAlike puts the same requests to LXD and to our daemon, and compares codes,
// headers, the fields of the answers with their types, and the events that they cause.
func TestAnswersAlike(t *testing.T) {
	j := newJudge(t)
	h := newHost(t)
	h.lxc("network", "create", h.bridge(), "ipv4.address=none", "ipv6.address=none")
	h.lxc("storage", "create", "default", "dir")
	h.lxc("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
	h.lxc("profile", "device", "add", "default", "eth0", "nic", "name=eth0", "network="+h.bridge())
	h.importTiny()
	_, a := ask(t, h.socket(), "GET", "/1.0/images", nil)
	var urls []string
	if err := json.Unmarshal(a.Metadata, &urls); err != nil || len(urls) != 1 {
		t.Fatalf("%v %s", err, a.Metadata)
	}
	fp := filepath.Base(urls[0])
	pair, err := keypair.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	var second bytes.Buffer
	if err := tinyimage.Write(&second, tinyimage.Options{Name: "second"}); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(second.Bytes())
	meet := func(socket, bridge, dir string) *party {
		p := &party{t: t, socket: socket,
			names: []string{"BRIDGE", bridge, "FINGERPRINT", fp, "NAME", h.name("a"), "OTHER", h.name("b"), "CERTIFICATE", pair.Fingerprint(), "SECOND", hex.EncodeToString(sum[:])},
			same:  strings.NewReplacer(bridge, "BRIDGE", fp, "FINGERPRINT", h.name("a"), "NAME", h.name("b"), "OTHER", dir, "DIR")}
		p.listen()
		return p
	}
	lxd, sett := meet(filepath.Join(j.dir, "lxd", "unix.socket"), j.bridge, j.dir), meet(h.socket(), h.bridge(), h.dir)
	for _, x := range exchanges(pair.Leaf.Raw, second.String()) {
		want, got := lxd.put(x), sett.put(x)
		if x.unlike != "" {
			continue
		}
		missing := slices.DeleteFunc(less(want, got), fewer.MatchString)
		extra := slices.DeleteFunc(less(got, want), func(s string) bool { return more.MatchString(s) || s == "after/metadata null" })
		if len(missing)+len(extra) > 0 {
			t.Errorf("%s %s\n  LXD: %s\n  ours: %s", x.method, x.path, strings.Join(missing, "\n       "), strings.Join(extra, "\n        "))
		}
	}
	// All that was begun has ended, and what it told is under way at most.
	heard := func(p *party) []string {
		p.mu.Lock()
		defer p.mu.Unlock()
		out := slices.Clone(p.events)
		slices.Sort(out)
		return out
	}
	last := time.Now()
	n := 0
	h.eventually("the end of the events", func() bool {
		if now := len(heard(lxd)) + len(heard(sett)); now != n {
			n, last = now, time.Now()
		}
		return time.Since(last) > 2*time.Second
	})
	want, got := heard(lxd), heard(sett)
	for _, s := range less(want, got) {
		if !unheard.MatchString(s) {
			t.Errorf("LXD tells: %s", s)
		}
	}
	for _, s := range less(got, want) {
		if !unheard.MatchString(s) {
			t.Errorf("only we tell: %s", s)
		}
	}
}

// exchanges are made so that the daemons are as before when all is done.
func exchanges(der []byte, second string) []exchange {
	type obj = map[string]any
	get := func(paths ...string) (out []exchange) {
		for _, p := range paths {
			out = append(out, exchange{method: "GET", path: p})
		}
		return out
	}
	do := func(method, path string, body any, header ...http.Header) exchange {
		x := exchange{method: method, path: path, body: body}
		for _, h := range header {
			x.header = h
		}
		return x
	}
	const (
		fault = "LXD takes it for a fault of its own"
		late  = "LXD finds out in the operation"
		quirk = "LXD does not do what it says"
	)
	otherwise := func(x exchange, why string) exchange { x.unlike = why; return x }
	stale := ifMatch("0000")
	var all []exchange
	add := func(xs ...exchange) { all = append(all, xs...) }

	add(get("/", "/1.0", "/1.0/none", "/1.0/certificates", "/1.0/certificates?recursion=1", "/1.0/certificates/none", "/1.0/cluster",
		"/1.0/projects", "/1.0/projects?recursion=1", "/1.0/projects/default", "/1.0/projects/none", "/1.0/resources", "/1.0/operations/none", "/1.0/operations/none/wait",
		"/1.0/images?recursion=1", "/1.0/images", "/1.0/images/FINGERPRINT", "/1.0/images/none", "/1.0/images/FINGERPRINT/export", "/1.0/images/none/export",
		"/1.0/images/aliases", "/1.0/images/aliases?recursion=1", "/1.0/images/aliases/tiny", "/1.0/images/aliases/none", "/1.0/images?filter=properties.os+eq+none")...)
	add(otherwise(do("GET", "/1.0/cluster/members", nil), fault), otherwise(do("GET", "/1.0/events?type=none", nil), fault),
		otherwise(do("GET", "/1.0/images?filter=public+eq+false", nil), "LXD's filters know no booleans"))
	add(do("PUT", "/1.0", obj{"config": obj{"user.x": "y"}}, stale), do("PATCH", "/1.0", obj{"config": obj{"user.x": "y"}}), do("PATCH", "/1.0", obj{"config": obj{"user.x": ""}}),
		do("PUT", "/1.0", "{"), do("DELETE", "/1.0", nil), do("POST", "/1.0", nil), do("OPTIONS", "/1.0", nil), do("HEAD", "/1.0", nil))

	cert := "/1.0/certificates/CERTIFICATE"
	add(do("POST", "/1.0/certificates", obj{"type": "client", "name": "me", "certificate": base64.StdEncoding.EncodeToString(der)}),
		do("POST", "/1.0/certificates", obj{"type": "client", "name": "me", "certificate": base64.StdEncoding.EncodeToString(der)}), do("POST", "/1.0/certificates", obj{"type": "none", "certificate": "x"}))
	add(get("/1.0/certificates", "/1.0/certificates?recursion=1", cert)...)
	add(do("PUT", cert, obj{"name": "you", "type": "client"}, stale), do("PATCH", cert, obj{"name": "you"}), do("PUT", cert, obj{"name": "you", "type": "server"}), do("GET", cert, nil),
		do("PUT", cert, obj{"name": "they", "type": "client", "restricted": true, "projects": []string{"default"}}), do("GET", cert, nil), do("DELETE", cert, nil), do("DELETE", cert, nil),
		do("POST", "/1.0/certificates", obj{"type": "client", "name": "me", "token": true}))

	add(do("POST", "/1.0/profiles", obj{"name": "p1", "description": "d", "config": obj{"user.a": "b"}, "devices": obj{}}), otherwise(do("POST", "/1.0/profiles", obj{"name": "p1"}), fault),
		do("POST", "/1.0/profiles", obj{"name": "a/b"}), do("POST", "/1.0/profiles", obj{}))
	add(get("/1.0/profiles", "/1.0/profiles?recursion=1", "/1.0/profiles/p1", "/1.0/profiles/none", "/1.0/profiles?recursion=2", "/1.0/profiles?recursion=x")...)
	add(do("PUT", "/1.0/profiles/p1", obj{"description": "e"}, stale), do("PATCH", "/1.0/profiles/p1", obj{"description": "e"}, stale),
		do("PATCH", "/1.0/profiles/p1", obj{"config": obj{"user.c": "d"}}), do("PUT", "/1.0/profiles/p1", obj{"description": "e"}), do("PUT", "/1.0/profiles/none", obj{}),
		otherwise(do("POST", "/1.0/profiles/p1", obj{"name": "default"}), fault), do("POST", "/1.0/profiles/p1", obj{"name": "p2"}), otherwise(do("POST", "/1.0/profiles/none", obj{"name": "p3"}), fault))
	add(get("/1.0/profiles/p2")...)
	add(do("DELETE", "/1.0/profiles/p2", nil), do("DELETE", "/1.0/profiles/p2", nil), do("DELETE", "/1.0/profiles/default", nil), do("POST", "/1.0/profiles/default", obj{"name": "x"}))

	alias := "/1.0/images/aliases/"
	add(do("POST", "/1.0/images/aliases", obj{"name": "al", "description": "d", "target": "FINGERPRINT"}), do("POST", "/1.0/images/aliases", obj{"name": "al", "target": "FINGERPRINT"}),
		do("POST", "/1.0/images/aliases", obj{"name": "al2"}), do("POST", "/1.0/images/aliases", obj{"name": "al2", "target": "none"}))
	add(get(alias + "al")...)
	add(do("PUT", alias+"al", obj{"target": "FINGERPRINT"}, stale), otherwise(do("PATCH", alias+"al", obj{"description": "e"}), fault),
		do("PUT", alias+"al", obj{"description": "f"}), do("PUT", alias+"al", obj{"description": "f", "target": "FINGERPRINT"}),
		do("POST", alias+"al", obj{"name": "tiny"}), otherwise(do("POST", alias+"al", obj{"name": "a/l"}), "LXD escapes the name twice"))
	add(get(alias+"a%2Fl", "/1.0/images/aliases")...)
	add(do("DELETE", alias+"a%2Fl", nil), do("DELETE", alias+"a%2Fl", nil))
	image := "/1.0/images/FINGERPRINT"
	add(do("PATCH", image, obj{"properties": obj{"a": "b c"}}, stale), do("PATCH", image, obj{"properties": obj{"a": "b c"}}), do("GET", image, nil),
		do("PUT", image, obj{"properties": obj{"os": "x"}, "public": true, "expires_at": "2040-01-01T00:00:00Z"}), do("GET", image, nil),
		do("PUT", image, obj{"properties": obj{"os": "x", "b": ""}, "profiles": []string{}}), do("GET", image, nil),
		do("PUT", image, obj{"properties": obj{"os": "x"}}), do("GET", image, nil), do("GET", "/1.0/images?filter=properties.os+eq+X", nil),
		do("PUT", image, obj{"profiles": []string{"none"}}), do("PUT", "/1.0/images/none", obj{}), do("POST", image+"/secret", nil), do("GET", "OPERATION", nil), do("DELETE", "OPERATION", nil),
		do("POST", "/1.0/images/none/secret", nil), do("DELETE", "/1.0/images/none", nil))

	upload := func(more ...string) http.Header {
		h := http.Header{"X-LXD-filename": {"second.tar.gz"}, "X-LXD-public": {"1"}, "X-LXD-properties": {"a=b+c&os=d%26e"}}
		for n := 0; n+1 < len(more); n += 2 {
			h[more[n]] = []string{more[n+1]}
		}
		return h
	}
	add(do("POST", "/1.0/images", second, upload()), do("GET", "/1.0/images/SECOND", nil), do("POST", "/1.0/images", second, upload()),
		otherwise(do("POST", "/1.0/images", second, upload("X-LXD-fingerprint", "abcd")), late), do("DELETE", "/1.0/images/SECOND", nil), do("GET", "/1.0/images/SECOND", nil))

	inst := "/1.0/instances/NAME"
	add(do("POST", "/1.0/instances", obj{"name": "NAME", "source": obj{"type": "image", "alias": "tiny"}, "config": obj{"user.a": "b"}}))
	add(get(inst, inst+"?recursion=1", "/1.0/instances", "/1.0/instances?recursion=1", "/1.0/instances?recursion=2", inst+"/state", inst+"/metadata",
		inst+"/metadata/templates", inst+"/metadata/templates?path=none", inst+"/snapshots", inst+"/snapshots?recursion=1", inst+"/snapshots/none", inst+"/backups",
		inst+"/backups?recursion=1", inst+"/backups/none", inst+"/files?path=/etc", inst+"/files?path=/none", inst+"/files", "/1.0/instances/none/state",
		"/1.0/containers", "/1.0/containers/NAME", "/1.0/virtual-machines", "/1.0/instances?instance-type=container&recursion=1", "/1.0/instances?all-projects=true",
		"/1.0/instances?recursion=1&filter=name+eq+NAME", "/1.0/instances?filter=config.user.a+eq+b", "/1.0/instances?recursion=1&filter=name+ne+NAME", "/1.0/instances?filter=name+eq+no.*",
		"/1.0/instances?all-projects=true&project=default", "/1.0/profiles/default", "/1.0/networks/BRIDGE", "/1.0/projects/default")...)
	add(otherwise(do("GET", inst+"/logs", nil), "we have none before the first start"), otherwise(do("GET", inst+"/console", nil), fault))
	add(do("POST", "/1.0/instances", obj{"name": "OTHER", "profiles": []string{"default"}, "source": obj{"type": "copy", "source": "NAME"}}))
	add(get("/1.0/instances/OTHER")...)
	add(do("PUT", inst, obj{"description": "x"}, stale), do("PATCH", inst, obj{"description": "x"}, stale), do("PATCH", inst, obj{"config": obj{"user.c": "d"}}), do("PATCH", inst, obj{"restore": "x"}),
		do("POST", inst+"/snapshots", obj{"name": "snap"}), do("POST", inst+"/snapshots", obj{}), do("POST", inst+"/snapshots", obj{"name": "a/b"}))
	add(get(inst+"/snapshots", inst+"/snapshots?recursion=1", inst+"/snapshots/snap", "/1.0/instances?recursion=2", inst+"?recursion=2")...)
	add(do("PUT", inst+"/snapshots/snap", obj{"expires_at": "2040-01-01T00:00:00Z"}, stale), do("PUT", inst+"/snapshots/snap", obj{"expires_at": "2040-01-01T00:00:00Z"}),
		do("GET", inst+"/snapshots/snap", nil), do("POST", inst+"/snapshots/snap", obj{"name": "snap2"}), do("PUT", inst, obj{"restore": "snap2"}), otherwise(do("PUT", inst, obj{"restore": "none"}), late),
		do("DELETE", inst+"/snapshots/snap2", nil), do("DELETE", inst+"/snapshots/snap2", nil), do("DELETE", inst+"/snapshots/snap0", nil),
		do("GET", "OPERATION", nil), do("GET", "OPERATION/wait", nil), do("GET", "OPERATION/wait?timeout=0", nil), otherwise(do("GET", "OPERATION/wait?timeout=x", nil), fault),
		otherwise(do("GET", "OPERATION/websocket?secret=x", nil), fault), do("DELETE", "OPERATION", nil))
	add(do("POST", inst+"/backups", obj{"name": "b0", "compression_algorithm": "none"}))
	add(get(inst+"/backups", inst+"/backups?recursion=1", inst+"/backups/b0")...)
	add(do("POST", inst+"/backups/b0", obj{"name": "b1"}), do("DELETE", inst+"/backups/b1", nil), do("DELETE", inst+"/backups/b1", nil))
	add(do("PUT", inst+"/state", obj{"action": "start", "timeout": 30}), do("PUT", inst+"/state", obj{"action": "start", "timeout": 30}))
	add(get(inst, inst+"/logs", inst+"/files?path=/etc/passwd", "/1.0/instances?filter=name+eq+a-.*", "/1.0/instances?filter=status+eq+running",
		"/1.0/instances?filter=not+name+eq+NAME+and+status+eq+Running", "/1.0/instances?filter=name+eq+x+or+name+eq+NAME")...)
	add(do("POST", inst+"/exec", obj{"command": []string{"cat"}, "wait-for-websocket": true}), do("POST", inst+"/exec", obj{"command": []string{"cat"}, "wait-for-websocket": true, "interactive": true}),
		do("POST", inst+"/console", obj{"type": "none"}), do("PATCH", inst, obj{"description": "x", "unknown": "field"}), do("PUT", "/1.0/instances", obj{"state": obj{"action": "none"}}), do("PUT", "/1.0/instances", obj{}))
	add(do("PUT", inst+"/snapshots/none", obj{}), do("POST", inst+"/snapshots/none", obj{"name": "x"}), do("POST", inst+"/backups", obj{"name": "a/b"}))
	add(do("POST", inst+"/exec", obj{"command": []string{"true"}, "record-output": true}), do("POST", inst+"/exec", obj{"command": []string{"none"}}),
		do("POST", inst+"/files?path=/tmp/x", "text"), do("GET", inst+"/files?path=/tmp/x", nil), do("HEAD", inst+"/files?path=/tmp/x", nil), do("DELETE", inst+"/files?path=/tmp/x", nil),
		do("DELETE", inst+"/files?path=/tmp/x", nil), do("PUT", inst+"/state", obj{"action": "freeze"}), do("PUT", inst+"/state", obj{"action": "unfreeze"}),
		do("PUT", inst+"/state", obj{"action": "restart", "force": true, "timeout": 30}), do("DELETE", inst+"/console", nil), do("DELETE", inst+"/logs/lxc.log", nil), otherwise(do("GET", inst+"/logs/none", nil), "LXD knows the names of logs"),
		do("DELETE", inst, nil), do("PUT", inst+"/state", obj{"action": "stop", "force": true, "timeout": 30}), do("PUT", inst+"/state", obj{"action": "stop", "force": true}),
		do("PUT", inst+"/state", obj{"action": "none"}), do("PUT", inst+"/state", obj{"action": "start"}), otherwise(do("GET", inst+"/logs/lxc.log", nil), "the logs are as long as they are"),
		do("PUT", inst+"/state", obj{"action": "stop", "timeout": 30}))
	add(otherwise(do("PUT", inst+"/metadata", obj{"architecture": "x86_64"}, stale), quirk), do("PATCH", inst+"/metadata", obj{"properties": obj{"a": "b"}}),
		do("POST", inst+"/metadata/templates?path=a.tpl", "x"), do("GET", inst+"/metadata/templates?path=a.tpl", nil), do("GET", inst+"/metadata/templates", nil), do("DELETE", inst+"/metadata/templates?path=a.tpl", nil))
	add(do("POST", "/1.0/images", obj{"source": obj{"type": "instance", "name": "NAME"}, "properties": obj{"a": "b"}}), otherwise(do("GET", "/1.0/images?recursion=1", nil), "LXD has two ways to say never"),
		do("DELETE", "/1.0/instances/OTHER", nil), do("DELETE", "/1.0/instances/OTHER", nil), do("POST", inst, obj{"name": "OTHER"}), do("DELETE", "/1.0/instances/OTHER", nil),
		do("POST", "/1.0/instances", obj{"name": "OTHER", "source": obj{"type": "none"}}), do("GET", "/1.0/instances/OTHER", nil), do("DELETE", "/1.0/instances/OTHER", nil))

	pool := "/1.0/storage-pools/default"
	add(get("/1.0/storage-pools", "/1.0/storage-pools?recursion=1", pool+"/resources", "/1.0/storage-pools/none", pool+"/volumes/custom", pool+"/volumes/none",
		pool+"/volumes/container/none", pool+"/volumes/custom?recursion=1")...)
	add(otherwise(do("GET", pool, nil), "LXD gives no ETag"), do("PUT", pool, obj{"description": "d"}, stale), do("PATCH", pool, obj{"description": "d"}), do("PATCH", pool, obj{"description": ""}),
		do("POST", "/1.0/storage-pools", obj{"name": "default", "driver": "dir"}), do("POST", "/1.0/storage-pools", obj{"name": "NAMEtwo", "driver": "dir"}),
		do("DELETE", "/1.0/storage-pools/NAMEtwo", nil), do("DELETE", "/1.0/storage-pools/NAMEtwo", nil))
	net := "/1.0/networks/BRIDGE"
	add(get("/1.0/networks/none", net, net+"/state", net+"/leases", "/1.0/networks/none/state")...)
	add(do("PUT", net, obj{"description": "d"}, stale), do("PATCH", net, obj{"description": "d"}), do("PATCH", net, obj{"description": ""}), do("GET", net, nil),
		do("POST", "/1.0/networks", obj{"name": "BRIDGEb", "type": "bridge", "config": obj{"ipv4.address": "none", "ipv6.address": "none"}}), do("GET", "/1.0/networks/BRIDGEb", nil),
		do("POST", "/1.0/networks/BRIDGEb", obj{"name": "BRIDGEc"}), do("DELETE", "/1.0/networks/BRIDGEc", nil), do("DELETE", "/1.0/networks/BRIDGEc", nil))
	return all
}
