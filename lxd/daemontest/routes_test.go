package daemontest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"sett/lxd/auth"
	"sett/lxd/daemon"
	"sett/lxd/daemontest"
	"sett/lxd/rest"
	"sett/shared/api"
)

// fill puts values of things that exist into a route's path.
func fill(r rest.Route, fingerprint string) string {
	one := map[string]string{
		"profiles": "default", "projects": "default", "storage-pools": "pool", "networks": "br0", "images": fingerprint,
		"aliases": "tiny", "instances": "c1", "containers": "c1", "virtual-machines": "c1", "volumes": "custom",
		"operations": "00000000-0000-4000-8000-000000000000", "logs": "lxc.log",
	}
	segs := strings.Split(r.Path, "/")
	for i, s := range segs {
		if strings.HasPrefix(s, "{") {
			segs[i] = one[segs[i-1]]
			if segs[i] == "" {
				segs[i] = "nothing"
			}
		}
	}
	return strings.Join(segs, "/")
}

func TestEveryRouteSaysWhatItIsAndWhoMay(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	for _, r := range s.Daemon.Routes() {
		if r.Summary == "" || r.Need == auth.NeedUnset || r.Handler == nil {
			t.Errorf("%s %s: summary %q, need %v", r.Method, r.Path, r.Summary, r.Need)
		}
		if (r.Need == auth.ViewProject || r.Need == auth.EditProject) && r.Scope != rest.InProject {
			t.Errorf("%s %s asks for a right in a project and knows of none", r.Method, r.Path)
		}
		// Strangers may ask to be trusted, log in, and join a cluster; all take a token,
		// which is the right.
		open := r.Path == "/1.0/certificates" || r.Path == "/1.0/webui/sessions" ||
			r.Path == "/internal/cluster/accept" || r.Path == "/internal/cluster/peek"
		if r.Method != http.MethodGet && r.Need == auth.Public && !open {
			t.Errorf("%s %s lets everybody make changes", r.Method, r.Path)
		}
	}
}

// TestStrangersGetPublicRoutesOnly talks to the daemon over a connection whose other
// end is unknown.
func TestStrangersGetPublicRoutesOnly(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := daemontest.New(t, func(o *daemon.Options) { o.Listener = l })
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for _, r := range s.Daemon.Routes() {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		req, err := http.NewRequestWithContext(ctx, r.Method, "http://"+l.Addr().String()+fill(r, strings.Repeat("a", 64)), strings.NewReader("{}"))
		s.Must(err)
		resp, err := c.Do(req)
		s.Must(err)
		text, err := io.ReadAll(resp.Body)
		s.Must(err)
		_ = resp.Body.Close()
		cancel()
		if r.Need != auth.Public && resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s %s answers a stranger %d %.200s", r.Method, r.Path, resp.StatusCode, text)
		}
		// What is public shows nothing that is not: there is no public thing here.
		if r.Need == auth.Public && (resp.StatusCode >= 500 || strings.Contains(string(text), "environment\":{")) {
			t.Errorf("%s %s tells a stranger %d %.300s", r.Method, r.Path, resp.StatusCode, text)
		}
	}
}

// misfits are JSON texts of the wrong shape for each field of a body.
func misfits(body any) []string {
	out := []string{"", "{", "[]", `"text"`, "7", "nul", `{"a":`, "\xff\xfe", "{}{}"}
	fields(reflect.TypeOf(body), func(name string, t reflect.Type) {
		wrong := `"text"`
		switch t.Kind() {
		case reflect.String:
			wrong = `{"a": 1}`
		case reflect.Slice, reflect.Map, reflect.Struct, reflect.Pointer:
			wrong = `"text"`
		case reflect.Interface:
			return
		}
		if t == reflect.TypeFor[time.Time]() {
			wrong = `"yesterday"`
		}
		out = append(out, fmt.Sprintf(`{%q: %s}`, name, wrong))
	})
	return out
}

// fields walks the fields of a struct as JSON has them, those of embedded structs among them.
func fields(t reflect.Type, f func(name string, t reflect.Type)) {
	for i := range t.NumField() {
		x := t.Field(i)
		name, _, _ := strings.Cut(x.Tag.Get("json"), ",")
		switch {
		case x.Anonymous && name == "":
			fields(x.Type, f)
		case name != "" && name != "-":
			f(name, x.Type)
		}
	}
}

func prepared(t *testing.T) (*daemontest.Server, string) {
	t.Helper()
	s := daemontest.New(t)
	s.Setup()
	fp := s.Import("tiny")
	s.Create("c1", "tiny")
	return s, fp
}

func TestBodiesOfTheWrongShapeAreRefused(t *testing.T) {
	t.Parallel()
	s, fp := prepared(t)
	huge := `{"description": "` + strings.Repeat("x", rest.DefaultBodyLimit) + `"}`
	for _, r := range s.Daemon.Routes() {
		if r.Body.Type == nil || r.Body.Stream || older(r) {
			continue
		}
		path := fill(r, fp)
		for _, body := range misfits(r.Body.Type) {
			if code, a := s.Do(r.Method, path, body); code < 400 || !allowed(code) || a.Error == "" {
				t.Errorf("%s %s with %q: %d %s", r.Method, path, body, code, a.Error)
			}
		}
		if code, a := s.Do(r.Method, path, huge); code < 400 || !allowed(code) {
			t.Errorf("%s %s with a huge body: %d %s", r.Method, path, code, a.Error)
		}
	}
}

// older tells of paths that lead to the same handlers as newer ones.
func older(r rest.Route) bool {
	return strings.HasPrefix(r.Path, "/1.0/containers") || strings.HasPrefix(r.Path, "/1.0/virtual-machines")
}

// nasty are words that are no name, no key and no path.
var nasty = []string{"..", ".", "/", "../../etc/passwd", "a/b", "-x", " ", "a b", "a\x00b", "a\nb", "%2e%2e", "'; DROP TABLE instances; --", "\u202eabc",
	strings.Repeat("n", 300), strings.Repeat("é", 70000)}

// allowed are refusals: the client's fault, or something known that is not built.
func allowed(code int) bool { return code < 500 || code == http.StatusNotImplemented }

// settle follows a request to the end of its operation and reports a failure that is
// the daemon's own.
func settle(t *testing.T, s *daemontest.Server, what string, code int, a api.Response) {
	t.Helper()
	if !allowed(code) {
		t.Errorf("%s: %d %s", what, code, a.Error)
	}
	if code != http.StatusAccepted {
		return
	}
	code, a = s.Do(http.MethodGet, a.Operation+"/wait?timeout=20", nil)
	if code != http.StatusOK {
		t.Errorf("%s: its operation: %d %s", what, code, a.Error)
	}
	op, err := a.MetadataAsOperation()
	s.Must(err)
	if op.StatusCode == api.Running || op.StatusCode == api.Pending {
		// An exec that waits for its websockets, for one.
		s.Do(http.MethodDelete, "/1.0/operations/"+op.ID, nil)
	}
	for _, w := range []string{"panic", "sqlite", "SQL", "no such file", "runtime error", "constraint"} {
		if strings.Contains(op.Err, w) {
			t.Errorf("%s: the operation failed with %q", what, op.Err)
		}
	}
}

// With -short it sends every fourth body.
func TestNastyValuesAreTheClientsFault(t *testing.T) {
	t.Parallel()
	s, fp := prepared(t)
	sent := 0
	for _, r := range s.Daemon.Routes() {
		if r.Body.Type == nil || r.Body.Stream || !strings.HasPrefix(r.Path, "/1.0") || older(r) {
			continue
		}
		path := fill(r, fp)
		var bodies []map[string]any
		fields(reflect.TypeOf(r.Body.Type), func(name string, t reflect.Type) {
			for _, w := range nasty {
				switch {
				case t.Kind() == reflect.String:
					bodies = append(bodies, map[string]any{name: w})
				case t == reflect.TypeFor[[]string]():
					bodies = append(bodies, map[string]any{name: []string{w}})
				case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Map:
					bodies = append(bodies, map[string]any{name: map[string]any{w: map[string]any{"type": "disk"}}},
						map[string]any{name: map[string]any{"x": map[string]any{"type": w}}},
						map[string]any{name: map[string]any{"x": map[string]any{"type": "disk", "path": w, "source": w, "pool": "pool"}}},
						map[string]any{name: map[string]any{"x": map[string]any{"type": "nic", "network": w, "name": w, "hwaddr": w}}})
				case t.Kind() == reflect.Map:
					bodies = append(bodies, map[string]any{name: map[string]any{w: "x"}}, map[string]any{name: map[string]any{"user.x": w}},
						map[string]any{name: map[string]any{"limits.cpu": w, "limits.memory": w}}, map[string]any{name: map[string]any{"source": w, "size": w}},
						map[string]any{name: map[string]any{"ipv4.address": w}})
				}
			}
			switch t.Kind() {
			case reflect.Int, reflect.Int64:
				for _, n := range []int64{-1, -1 << 62, 1 << 62} {
					bodies = append(bodies, map[string]any{name: n})
				}
			}
		})
		for _, b := range bodies {
			if sent++; testing.Short() && sent%4 != 0 {
				continue
			}
			text, err := json.Marshal(b)
			s.Must(err)
			code, a := s.Do(r.Method, path, text)
			settle(t, s, fmt.Sprintf("%s %s with %.120s", r.Method, path, text), code, a)
		}
	}
	// It lives, and so do the things that were there.
	if _, _, err := s.GetInstance("c1"); err != nil {
		t.Error(err)
	}
}

func TestNastyPathsAreTheClientsFault(t *testing.T) {
	t.Parallel()
	s, fp := prepared(t)
	for _, r := range s.Daemon.Routes() {
		if !strings.Contains(r.Path, "{") || older(r) {
			continue
		}
		for _, w := range []string{"%2e%2e", "..%2F..%2F..%2Fetc%2Fpasswd", "a%2Fb", "%00", "%0a", "%ff", "%25", "-", "%27", strings.Repeat("n", 300), strings.Repeat("n", 20000)} {
			good := fill(r, fp)
			i := strings.LastIndex(good, "/")
			if !strings.HasSuffix(r.Path, "}") {
				i = strings.LastIndex(good[:i], "/")
			}
			rest := good[i+1:]
			if _, tail, ok := strings.Cut(rest, "/"); ok {
				rest = "/" + tail
			} else {
				rest = ""
			}
			path := good[:i+1] + w + rest
			code, a := s.Do(r.Method, path, "{}")
			if code < 400 || !allowed(code) {
				// An empty list is an answer too.
				if r.Method == http.MethodGet && code == http.StatusOK && string(a.Metadata) == "[]" {
					continue
				}
				t.Errorf("%s %.120s: %d %s", r.Method, path, code, a.Error)
			}
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/1.0/nothing", 404}, {"GET", "/2.0", 404}, {"GET", "/1.0/", 404}, {"BREW", "/1.0", 404},
		{"DELETE", "/1.0", 501}, {"GET", "/1.0/profiles/default/x", 404}, {"GET", "/1.0/profiles?project=none", 404},
		{"GET", "/1.0/instances?filter=((", 400}, {"GET", "/1.0/instances?all-projects=true&project=default", 400},
		{"GET", "/1.0/operations/x/wait?timeout=soon", 404}, {"GET", "/1.0/profiles?recursion=many", 200},
	} {
		if code, a := s.Do(c.method, c.path, nil); code != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, code, a.Error, c.want)
		}
	}
}
