package daemontest_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

// rootfs is where the files of an instance lie on the host.
func rootfs(s *daemontest.Server, name string) string {
	return filepath.Join(s.Dir, "storage-pools", "pool", "containers", name, "rootfs")
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	templateEndpoints(t, s)
	m, etag, err := s.GetInstanceMetadata("c1")
	s.Must(err)
	if m.Properties["os"] != "test" {
		t.Errorf("the image's metadata: %+v", m)
	}
	m.Templates = map[string]*api.ImageMetadataTemplate{
		"/etc/hostname": {When: []string{"create", "rename"}, Template: "hostname.tpl"},
		"/etc/why":      {When: []string{"create", "rename", "start"}, Template: "why.tpl"},
	}
	s.Must(s.UpdateInstanceMetadata("c1", *m, etag))
	if err := s.UpdateInstanceMetadata("c1", *m, etag); status(err) != 412 {
		t.Errorf("a change of what somebody else changed: %v", err)
	}
	s.Must(s.CreateInstanceTemplateFile("c1", "hostname.tpl", strings.NewReader("{{ instance.name }}\n")))
	s.Must(s.CreateInstanceTemplateFile("c1", "why.tpl", strings.NewReader(`{{ trigger }} {{ config_get("cloud-init.user-data", config_get("user.user-data", "none")) }}`)))
	see := func(file, want string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(rootfs(s, "c1"), file)); err != nil || string(b) != want {
			t.Errorf("%s: %q %v, want %q", file, b, err, want)
		}
	}
	s.SetState("c1", "start")
	see("etc/hostname", "c1\n")
	see("etc/why", "start none")
	s.SetState("c1", "stop")
	s.Must(os.WriteFile(filepath.Join(rootfs(s, "c1"), "etc/hostname"), []byte("mine"), 0o644))
	inst, etag, err := s.GetInstance("c1")
	s.Must(err)
	was := inst.Config["volatile.cloud-init.instance-id"]
	put := inst.Writable()
	put.Config["cloud-init.network-config"] = "text"
	if op, err := s.UpdateInstance("c1", put, etag); err == nil {
		err = op.Wait()
		if err == nil || !strings.Contains(err.Error(), "cloud-init.network-config") {
			t.Errorf("a network configuration that is none: %v", err)
		}
	}
	put.Config["cloud-init.network-config"] = "version: 1\n"
	put.Config["cloud-init.user-data"] = "#cloud-config"
	op, err := s.UpdateInstance("c1", put, etag)
	s.Wait(op, err)
	inst, _, err = s.GetInstance("c1")
	s.Must(err)
	if is := inst.Config["volatile.cloud-init.instance-id"]; is == "" || is == was {
		t.Errorf("cloud-init would not see its new data: instance id %q, then %q", was, is)
	}
	s.SetState("c1", "start")
	see("etc/hostname", "mine")
	see("etc/why", "start #cloud-config")
	s.SetState("c1", "stop")
	op, err = s.RenameInstance("c1", api.InstancePost{Name: "c2"})
	s.Wait(op, err)
	s.SetState("c2", "start")
	if b, _ := os.ReadFile(filepath.Join(rootfs(s, "c2"), "etc/hostname")); string(b) != "c2\n" {
		t.Errorf("after a rename: %q", b)
	}
	s.SetState("c2", "stop")

	// One that is wrong keeps the instance from starting, and the words say why.
	s.Must(s.CreateInstanceTemplateFile("c2", "why.tpl", strings.NewReader(`{% include "/etc/passwd" %}`)))
	op, err = s.UpdateInstanceState("c2", api.InstanceStatePut{Action: "start", Timeout: -1}, "")
	s.Must(err)
	if err = op.Wait(); err == nil || !strings.Contains(err.Error(), "/etc/why") {
		t.Errorf("start with a template that reads files: %v", err)
	}
	if inst, _, _ = s.GetInstance("c2"); inst.Status != "Stopped" {
		t.Errorf("after a start that failed: %s", inst.Status)
	}
}

func templateEndpoints(t *testing.T, s *daemontest.Server) {
	t.Helper()
	const at = "/1.0/instances/c1/metadata/templates"
	if names, err := s.GetInstanceTemplateFiles("c1"); err != nil || len(names) != 0 {
		t.Errorf("at first: %v %v", names, err)
	}
	s.Must(s.CreateInstanceTemplateFile("c1", "a.tpl", strings.NewReader("one")))
	s.Must(s.CreateInstanceTemplateFile("c1", "b.tpl", nil))
	if names, _ := s.GetInstanceTemplateFiles("c1"); !slices.Equal(names, []string{"a.tpl", "b.tpl"}) {
		t.Errorf("names: %v", names)
	}
	f, err := s.GetInstanceTemplateFile("c1", "a.tpl")
	s.Must(err)
	defer f.Close()
	if b, _ := io.ReadAll(f); string(b) != "one" {
		t.Errorf("content: %q", b)
	}
	s.Must(s.DeleteInstanceTemplateFile("c1", "b.tpl"))
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", at + "?path=none", 404}, {"DELETE", at + "?path=none", 404}, {"DELETE", at, 400}, {"POST", at, 400},
		{"POST", at + "?path=..%2fmetadata.yaml", 400}, {"GET", at + "?path=..%2fmetadata.yaml", 400},
		{"GET", "/1.0/instances/none/metadata", 404}, {"GET", "/1.0/instances/none/metadata/templates", 404},
		{"GET", "/1.0/containers/c1/metadata", 200},
	} {
		if code, a := s.Do(c.method, c.path, nil); code != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, code, a.Error, c.want)
		}
	}
	if code, _ := s.Do("POST", at+"?path=big", make([]byte, 1<<20+1)); code != 413 {
		t.Errorf("a long template: %d", code)
	}
	if code, a := s.Do("PATCH", "/1.0/instances/c1/metadata", `{"properties": {"release": "12"}}`); code != 200 {
		t.Fatalf("patch: %d %s", code, a.Error)
	}
	m, _, err := s.GetInstanceMetadata("c1")
	s.Must(err)
	if m.Properties["os"] != "test" || m.Properties["release"] != "12" {
		t.Errorf("after a patch: %v", m.Properties)
	}
}
