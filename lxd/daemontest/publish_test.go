package daemontest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

// publish makes an image of an instance, or of a snapshot, and returns its fingerprint.
func publish(s *daemontest.Server, t *testing.T, req api.ImagesPost, typ, name string) string {
	t.Helper()
	req.Source = &api.ImagesPostSource{Type: typ, Name: name}
	op, err := s.CreateImage(req, nil)
	s.Wait(op, err)
	fp, _ := op.Get().Metadata["fingerprint"].(string)
	if len(fp) != 64 {
		t.Fatalf("the operation does not tell the fingerprint: %v", op.Get().Metadata)
	}
	return fp
}

// write changes a file of an instance that does not run.
func write(s *daemontest.Server, name, text string) {
	s.Must(os.WriteFile(filepath.Join(rootfs(s, name), "etc/motd"), []byte(text), 0o644))
}

func TestImagesOfInstances(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	write(s, "c1", "one")
	op, err := s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: "snap"})
	s.Wait(op, err)
	write(s, "c1", "two")
	s.SetState("c1", "start")
	if _, err := s.CreateImage(api.ImagesPost{Source: &api.ImagesPostSource{Type: "instance", Name: "c1"}}, nil); status(err) != 400 || !strings.Contains(err.Error(), "running") {
		t.Errorf("of a running instance: %v", err)
	}
	old := publish(s, t, api.ImagesPost{Aliases: []api.ImageAlias{{Name: "old"}}}, "snapshot", "c1/snap")
	s.SetState("c1", "stop")
	req := api.ImagesPost{CompressionAlgorithm: "none", Aliases: []api.ImageAlias{{Name: "new"}}}
	req.Properties = map[string]string{"os": "mine"}
	publish(s, t, req, "instance", "c1")
	for image, want := range map[string]string{"old": "one", "new": "two"} {
		s.Create("of-"+image, image)
		if b, err := os.ReadFile(filepath.Join(rootfs(s, "of-"+image), "etc/motd")); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v", image, b, err)
		}
	}
	i, _, err := s.GetInstance("of-new")
	s.Must(err)
	if i.Config["image.os"] != "mine" || i.Config["image.description"] != "" {
		t.Errorf("config %v", i.Config)
	}

	// And back to the older one.
	op, err = s.RebuildInstance("of-new", api.InstanceRebuildPost{Source: api.InstanceSource{Type: "image", Alias: "old"}})
	s.Wait(op, err)
	if b, err := os.ReadFile(filepath.Join(rootfs(s, "of-new"), "etc/motd")); err != nil || string(b) != "one" {
		t.Errorf("rebuilt, it holds %q, %v", b, err)
	}
	if i, _, err = s.GetInstance("of-new"); err != nil || i.Config["image.os"] != "test" || i.Config["volatile.base_image"] != old {
		t.Errorf("config %v, %v", i.Config, err)
	}
	if _, err := s.RebuildInstance("c1", api.InstanceRebuildPost{Source: api.InstanceSource{Type: "none"}}); status(err) != 400 || !strings.Contains(err.Error(), "snapshots") {
		t.Errorf("with a snapshot: %v", err)
	}
	op, err = s.RebuildInstance("of-old", api.InstanceRebuildPost{Source: api.InstanceSource{Type: "none"}})
	s.Wait(op, err)
	if ents, err := os.ReadDir(rootfs(s, "of-old")); err != nil || len(ents) != 0 {
		t.Errorf("emptied, it holds %v, %v", ents, err)
	}

	srv, etag, err := s.GetServer()
	s.Must(err)
	put := srv.Writable()
	put.Config["images.compression_algorithm"] = "sh -c id"
	if err := s.UpdateServer(put, etag); status(err) != 400 || !strings.Contains(err.Error(), "images.compression_algorithm") {
		t.Errorf("a shell for compression: %v", err)
	}
}

// TestImagesAreMadeWhereTheInstanceIs asks a member for what another one has.
func TestImagesAreMadeWhereTheInstanceIs(t *testing.T) {
	t.Parallel()
	ms, _ := trio(t, 2)
	createOn(ms[0], "m2", "c2")
	write(ms[1], "c2", "there")
	fp := publish(ms[0], t, api.ImagesPost{Aliases: []api.ImageAlias{{Name: "web"}}}, "instance", "c2")
	for n, s := range ms {
		_, err := os.Stat(filepath.Join(s.Dir, "images", fp))
		if (err == nil) != (n == 1) {
			t.Errorf("m%d has the image: %v", n+1, err)
		}
		if img, _, err := s.GetImage(fp); err != nil || len(img.Aliases) != 1 {
			t.Errorf("m%d shows %+v, %v", n+1, img, err)
		}
	}
	op, err := ms[1].UseTarget("m1").CreateInstance(api.InstancesPost{Name: "c1", Source: api.InstanceSource{Type: "image", Alias: "web"}})
	ms[1].Wait(op, err)
	if b, err := os.ReadFile(filepath.Join(rootfs(ms[0], "c1"), "etc/motd")); err != nil || string(b) != "there" {
		t.Errorf("it holds %q, %v", b, err)
	}
	op, err = ms[0].RebuildInstance("c2", api.InstanceRebuildPost{Source: api.InstanceSource{Type: "image", Alias: "tiny"}})
	ms[0].Wait(op, err)
	if _, err := os.ReadFile(filepath.Join(rootfs(ms[1], "c2"), "etc/motd")); err == nil {
		t.Error("it was not rebuilt where it is")
	}
	// Uploads stay with the member that is asked.
	fp = ms[1].Import("other")
	if _, err := os.Stat(filepath.Join(ms[1].Dir, "images", fp)); err != nil {
		t.Error(err)
	}
}
