package disk_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sett/lxd/container"
	"sett/lxd/device"
	"sett/lxd/device/disk"
	"sett/lxd/host/idmap"
	"sett/shared/errs"
	"sett/shared/undo"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	r := device.NewRegistry(disk.Kind{})
	for name, c := range map[string]struct {
		cfg  device.Config
		code int
		text string
	}{
		"root":                {device.Config{"type": "disk", "path": "/", "pool": "p", "size": "10GiB"}, 0, ""},
		"host":                {device.Config{"type": "disk", "path": "/mnt", "source": "/srv", "readonly": "true", "shift": "true"}, 0, ""},
		"relative target":     {device.Config{"type": "disk", "path": "mnt/x", "source": "/srv"}, 0, ""},
		"out of the root":     {device.Config{"type": "disk", "path": "/../x", "source": "/srv"}, 400, "leads out"},
		"no path":             {device.Config{"type": "disk", "source": "/srv"}, 400, `"path"`},
		"root without pool":   {device.Config{"type": "disk", "path": "/"}, 400, `"pool"`},
		"relative source":     {device.Config{"type": "disk", "path": "/mnt", "source": "srv"}, 400, "absolute"},
		"custom volume":       {device.Config{"type": "disk", "path": "/mnt", "source": "/vol", "pool": "p"}, 501, "Custom storage volumes"},
		"limits":              {device.Config{"type": "disk", "path": "/mnt", "source": "/srv", "limits.read": "1MB"}, 501, "limits.read"},
		"unknown key":         {device.Config{"type": "disk", "path": "/mnt", "source": "/srv", "colour": "red"}, 400, "colour"},
		"size of a host path": {device.Config{"type": "disk", "path": "/mnt", "source": "/srv", "size": "1GB"}, 400, "root disk"},
	} {
		err := r.Validate(t.Context(), device.Services{}, "default", "d", c.cfg)
		if c.code == 0 {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || errs.Status(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %d with %s", name, err, c.code, c.text)
		}
	}
}

func start(t *testing.T, c device.Config) (device.Plug, error) {
	t.Helper()
	d, err := disk.Kind{}.New(device.Env{Name: "d", Config: c, Instance: device.Instance{
		IDMap: idmap.Map{{UID: true, GID: true, HostID: 100000, Range: 65536}}}})
	if err != nil {
		t.Fatal(err)
	}
	var u undo.Stack
	return d.Start(t.Context(), &u)
}

func TestMountOfAHostPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "l")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	p, err := start(t, device.Config{"type": "disk", "path": "/mnt/", "source": link, "readonly": "true", "shift": "true", "recursive": "true"})
	if err != nil {
		t.Fatal(err)
	}
	m := p.Mounts[0]
	if m.Source != dir || m.Target != "mnt" || !m.Idmapped || m.Create != container.CreateDir || !slices.Equal(m.Options, []string{"rbind", "ro"}) {
		t.Errorf("got %+v", m)
	}
	if p, err = start(t, device.Config{"type": "disk", "path": "etc/f", "source": file}); err != nil {
		t.Fatal(err)
	}
	if m := p.Mounts[0]; m.Create != container.CreateFile || m.Idmapped || !slices.Equal(m.Options, []string{"bind"}) {
		t.Errorf("got %+v", m)
	}
}

func TestMissingSource(t *testing.T) {
	t.Parallel()
	gone := filepath.Join(t.TempDir(), "gone")
	if _, err := start(t, device.Config{"type": "disk", "path": "/mnt", "source": gone}); errs.Status(err) != 400 || !strings.Contains(err.Error(), gone) {
		t.Errorf("got %v", err)
	}
	for _, k := range []string{"required", "optional"} {
		v := map[string]string{"required": "false", "optional": "true"}[k]
		if p, err := start(t, device.Config{"type": "disk", "path": "/mnt", "source": gone, k: v}); err != nil || len(p.Mounts) != 0 {
			t.Errorf("%s=%s: %v %v", k, v, p, err)
		}
	}
}
