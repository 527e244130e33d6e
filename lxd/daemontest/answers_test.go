package daemontest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

// TestAnswersAreWhatTheTableSays asks every route that shows something of things that are
// there, and holds what comes against what the route says of itself: the references and
// clients go by that.
func TestAnswersAreWhatTheTableSays(t *testing.T) {
	t.Parallel()
	s, fp := prepared(t)
	op, err := s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: "snap"})
	s.Wait(op, err)
	op, err = s.CreateInstanceBackup("c1", api.InstanceBackupsPost{Name: "b0", CompressionAlgorithm: "none"})
	s.Wait(op, err)
	p := pair(t)
	s.Must(s.CreateCertificate(api.CertificatesPost{CertificatePut: api.CertificatePut{Name: "me", Type: "client", Certificate: base64.StdEncoding.EncodeToString(p.Leaf.Raw)}}))
	waits, err := s.CreateImageSecret(fp) // an operation that goes on
	s.Must(err)
	names := map[string]string{"{snapshot}": "snap", "{backup}": "b0", "certificates/{fingerprint}": "certificates/" + p.Fingerprint(), "{id}": waits.Get().ID,
		"{type}/{volume}": "container/c1"}
	// What is not to be had on a server that stands alone, or of things that are not built.
	absent := map[string]bool{"/1.0/cluster/members": true, "/1.0/cluster/members/{name}": true, "/1.0/cluster/groups": true, "/1.0/cluster/groups/{name}": true,
		"/1.0/webui/sessions/{id}": true, "/1.0/events": true, "/1.0/operations/{id}/websocket": true, "/1.0/operations/{id}/wait": true,
		"/1.0/instances/{name}/files": true, "/1.0/instances/{name}/sftp": true, "/1.0/instances/{name}/snapshots/{snapshot}/files": true,
		"/1.0/instances/{name}/snapshots/{snapshot}/sftp": true, "/1.0/instances/{name}/logs/{file}": true}
	client, err := s.GetHTTPClient()
	s.Must(err)
	for _, r := range s.Daemon.Routes() {
		if r.Method != http.MethodGet || !strings.HasPrefix(r.Path, "/1.0") || older(r) || absent[r.Path] {
			continue
		}
		asked := r
		for from, to := range names {
			asked.Path = strings.Replace(asked.Path, from, to, 1)
		}
		for _, recursion := range []string{"0", "1", "2"} {
			path := fill(asked, fp) + "?recursion=" + recursion
			resp, err := client.Get("http://unix.socket" + path)
			s.Must(err)
			text, err := io.ReadAll(resp.Body)
			s.Must(err)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s %.200s", path, resp.Status, text)
				continue
			}
			if (resp.Header.Get("ETag") != "") != r.ETag {
				t.Errorf("%s: ETag %q, and the table says %v", path, resp.Header.Get("ETag"), r.ETag)
			}
			if resp.Header.Get("Content-Type") != "application/json" {
				continue // a file
			}
			var a api.Response
			s.Must(json.Unmarshal(text, &a))
			holds(t, path, a.Metadata, r.Reply, recursion)
		}
	}
}

// holds compares metadata with an example of its type.
func holds(t *testing.T, path string, metadata json.RawMessage, example any, recursion string) {
	t.Helper()
	if bytes.Equal(metadata, []byte("null")) {
		t.Errorf("%s answers null", path)
		return
	}
	if example == nil {
		return
	}
	want := reflect.TypeOf(example)
	// What has no URLs of its own is listed whole.
	whole := strings.Contains(path, "/leases?") || strings.Contains(path, "/retention?")
	if want.Kind() == reflect.Slice && want.Elem().Kind() == reflect.Struct && recursion == "0" && !whole {
		want = reflect.TypeFor[[]string]()
	}
	if strings.HasPrefix(path, "/1.0/instances?") && recursion == "2" {
		want = reflect.TypeFor[[]api.InstanceFull]()
	}
	if strings.HasPrefix(path, "/1.0/instances/c1?") && recursion != "0" {
		want = reflect.TypeFor[api.InstanceFull]()
	}
	into := reflect.New(want)
	dec := json.NewDecoder(bytes.NewReader(metadata))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into.Interface()); err != nil {
		t.Errorf("%s is no %s: %v", path, want, err)
	}
	if urls, ok := into.Interface().(*[]string); ok {
		for _, u := range *urls {
			if path != "/?recursion="+recursion && !strings.HasPrefix(u, "/1.0/") {
				t.Errorf("%s lists %q", path, u)
			}
		}
	}
}

// TestEmptyListsAreLists: a server that holds nothing answers with lists of nothing.
func TestEmptyListsAreLists(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	for _, path := range []string{"/1.0/instances", "/1.0/containers", "/1.0/virtual-machines", "/1.0/images", "/1.0/images/aliases", "/1.0/certificates", "/1.0/storage-pools"} {
		for _, q := range []string{"", "?recursion=1", "?recursion=2", "?all-projects=true", "?filter=name+eq+x"} {
			if code, a := s.Do(http.MethodGet, path+q, nil); code != http.StatusOK || string(a.Metadata) != "[]" {
				t.Errorf("%s: %d %s %s", path+q, code, a.Metadata, a.Error)
			}
		}
	}
	for _, q := range []string{"", "?recursion=1", "?history=true"} {
		if code, a := s.Do(http.MethodGet, "/1.0/operations"+q, nil); code != http.StatusOK || a.Metadata[0] != '{' {
			t.Errorf("operations%s: %d %s", q, code, a.Metadata)
		}
	}
}
