package instance_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/client/clienttest"
	"sett/lxc/cli"
	"sett/lxc/instance"
	"sett/shared/api"
)

// exporting runs "lxc export" against a server that has one backup to give.
func exporting(t *testing.T, content string, args ...string) (stdout string, requests []string, code int) {
	t.Helper()
	s := clienttest.New(t)
	s.Async("POST /1.0/instances/c1/backups", api.Operation{StatusCode: api.Success, Resources: map[string][]string{"backups": {"/1.0/backups/backup3"}}})
	s.Async("DELETE /1.0/instances/c1/backups/backup3", api.Operation{StatusCode: api.Success})
	s.Handle("GET /1.0/instances/c1/backups/backup3/export", func(w http.ResponseWriter, _ *http.Request) {
		if content == "" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(content))
	})
	conf := t.TempDir()
	if err := os.WriteFile(filepath.Join(conf, "config.yml"), []byte("default-remote: local\nremotes:\n  local:\n    addr: unix://"+s.Socket+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	app := cli.New(instance.Export, instance.Import)
	app.In, app.Out, app.Err = strings.NewReader(""), &out, &errOut
	app.Getenv = func(key string) string {
		return map[string]string{"LXD_CONF": conf, "LXD_GLOBAL_CONF": conf, "HOME": conf, "LXD_SOCKET": s.Socket}[key]
	}
	code = app.Run(context.Background(), append([]string{"export", "c1"}, args...))
	return out.String(), s.Requests(), code
}

func TestExportBringsTheFileAndTidiesUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target := filepath.Join(dir, "b.tar.gz")
	out, requests, code := exporting(t, "all of it", target, "--instance-only", "--compression", "zstd")
	if b, _ := os.ReadFile(target); code != 0 || string(b) != "all of it" || out != "Backup exported successfully!\n" {
		t.Errorf("exit %d, %q in the file, it said %q", code, b, out)
	}
	if len(requests) != 2 || !strings.Contains(requests[0], `"instance_only":true,"container_only":true,"optimized_storage":false,"compression_algorithm":"zstd"`) ||
		requests[1] != "DELETE /1.0/instances/c1/backups/backup3" {
		t.Errorf("requests %q", requests)
	}
	// To standard output goes nothing else.
	if out, _, code := exporting(t, "all of it", "-"); code != 0 || out != "all of it" {
		t.Errorf("exit %d, %q", code, out)
	}
	// What fails leaves the old file as it is, and no half of a new one.
	_, requests, code = exporting(t, "", target)
	if b, _ := os.ReadFile(target); code == 0 || string(b) != "all of it" || len(requests) != 2 {
		t.Errorf("exit %d, %q in the file, requests %q", code, b, requests)
	}
	if es, _ := os.ReadDir(dir); len(es) != 1 {
		t.Errorf("left: %v", es)
	}
}
