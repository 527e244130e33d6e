package template_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/host/render"
	"sett/lxd/instance/template"
	"sett/shared/api"
	"sett/shared/errs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// volume makes the folder of an instance with some files in it.
func volume(t *testing.T, files map[string]string) (*template.Volume, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "c1")
	must(t, os.MkdirAll(filepath.Join(dir, "rootfs/etc"), 0o755))
	for name, text := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	v, err := template.Open(dir)
	must(t, err)
	t.Cleanup(func() { _ = v.Close() })
	return v, dir
}

func guest() template.Guest {
	return template.Guest{Instance: map[string]string{"name": "c1"}, Config: map[string]string{"user.a": "b"}, UID: os.Getuid(), GID: os.Getgid()}
}

const hostname = `architecture: x86_64
templates:
  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
  /etc/machine:
    when: [create, start]
    create_only: true
    template: hostname.tpl
  /var/lib/deep/each:
    when: [start]
    template: each.tpl
    properties: {p: q}
`

func TestApplyWritesWhatTheTriggersCallFor(t *testing.T) {
	t.Parallel()
	v, dir := volume(t, map[string]string{"metadata.yaml": hostname, "templates/hostname.tpl": "{{ container.name }}\n",
		"templates/each.tpl": "{{ trigger }} {{ properties.p }} {{ config_get(\"user.a\", \"\") }}\n"})
	must(t, v.Apply(t.Context(), render.Direct{}, guest(), template.Create, template.Start))
	for name, want := range map[string]string{"etc/hostname": "c1\n", "etc/machine": "c1\n", "var/lib/deep/each": "start q b\n"} {
		b, err := os.ReadFile(filepath.Join(dir, "rootfs", name))
		if err != nil || string(b) != want {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "rootfs/etc/hostname"), []byte("mine"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "rootfs/etc/machine"), []byte("mine"), 0o600))
	must(t, v.Apply(t.Context(), render.Direct{}, guest(), template.Start))
	for _, name := range []string{"etc/hostname", "etc/machine"} {
		if b, _ := os.ReadFile(filepath.Join(dir, "rootfs", name)); string(b) != "mine" {
			t.Errorf("%s was written again: %q", name, b)
		}
	}
}

type never struct{ t *testing.T }

func (n never) Render(context.Context, render.Job) ([]string, error) {
	n.t.Error("something was rendered")
	return nil, nil
}

func TestApplyCostsNothingWithoutTemplates(t *testing.T) {
	t.Parallel()
	v, _ := volume(t, nil)
	must(t, v.Apply(t.Context(), never{t}, guest(), template.Create, template.Start))
	v, _ = volume(t, map[string]string{"metadata.yaml": "architecture: x86_64\n"})
	must(t, v.Apply(t.Context(), never{t}, guest(), template.Create, template.Start))
	v, _ = volume(t, map[string]string{"metadata.yaml": hostname})
	must(t, v.Apply(t.Context(), never{t}, guest(), template.Rename))
}

// An image made by somebody who wants to read or write the host's files gets nothing.
func TestApplyOfHostileImages(t *testing.T) {
	t.Parallel()
	entry := func(path, tpl string) string {
		return "templates:\n  " + path + ":\n    when: [start]\n    template: " + tpl + "\n"
	}
	for name, c := range map[string]struct {
		files map[string]string
		more  func(dir, outside string) error
	}{
		"template outside":            {files: map[string]string{"metadata.yaml": entry("/etc/x", "../../secret")}},
		"template with absolute path": {files: map[string]string{"metadata.yaml": entry("/etc/x", "/etc/passwd")}},
		"template is a link": {files: map[string]string{"metadata.yaml": entry("/etc/x", "a"), "templates/b": ""},
			more: func(dir, outside string) error { return os.Symlink(outside, dir+"/templates/a") }},
		"templates is a link": {files: map[string]string{"metadata.yaml": entry("/etc/x", "secret")},
			more: func(dir, outside string) error { return os.Symlink(filepath.Dir(outside), dir+"/templates") }},
		"template is a fifo": {files: map[string]string{"metadata.yaml": entry("/etc/x", "a"), "templates/b": ""},
			more: func(dir, _ string) error { return unix.Mkfifo(dir+"/templates/a", 0o600) }},
		"metadata is a link":  {more: func(dir, outside string) error { return os.Symlink(outside, dir+"/metadata.yaml") }},
		"metadata is a fifo":  {more: func(dir, _ string) error { return unix.Mkfifo(dir+"/metadata.yaml", 0o600) }},
		"metadata is long":    {files: map[string]string{"metadata.yaml": strings.Repeat("#", template.MaxMetadata+1)}},
		"metadata is no yaml": {files: map[string]string{"metadata.yaml": "\t{"}},
		"target is a folder":  {files: map[string]string{"metadata.yaml": entry("/etc", "a"), "templates/a": "x"}},
		"rootfs is a link": {files: map[string]string{"metadata.yaml": entry("/x", "a"), "templates/a": "x"},
			more: func(dir, outside string) error {
				if err := os.RemoveAll(dir + "/rootfs"); err != nil {
					return err
				}
				return os.Symlink(filepath.Dir(outside), dir+"/rootfs")
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, dir := volume(t, c.files)
			outside := filepath.Join(filepath.Dir(dir), "secret")
			must(t, os.WriteFile(outside, []byte(entry("/etc/x", "a")), 0o644))
			if c.more != nil {
				must(t, c.more(dir, outside))
			}
			if err := v.Apply(t.Context(), render.Direct{}, guest(), template.Start); err == nil {
				t.Error("it was applied")
			} else if !errs.Is(err, errs.KindInvalid) {
				t.Errorf("the error is no plain answer: %v", err)
			}
			if _, err := os.Lstat(dir + "/rootfs/etc/x"); err == nil {
				t.Error("a file was made")
			}
		})
	}
}

func TestTargetLinkIsReplaced(t *testing.T) {
	t.Parallel()
	v, dir := volume(t, map[string]string{"metadata.yaml": hostname, "templates/hostname.tpl": "{{ container.name }}", "templates/each.tpl": ""})
	outside := filepath.Join(filepath.Dir(dir), "secret")
	must(t, os.WriteFile(outside, []byte("secret"), 0o644))
	must(t, os.Symlink(outside, dir+"/rootfs/etc/hostname"))
	must(t, v.Apply(t.Context(), render.Direct{}, guest(), template.Create))
	if b, _ := os.ReadFile(outside); string(b) != "secret" {
		t.Fatalf("the host was written to: %q", b)
	}
	if b, _ := os.ReadFile(dir + "/rootfs/etc/hostname"); string(b) != "c1" {
		t.Errorf("the guest has %q", b)
	}
}

func TestMetadataAndTemplatesComeAndGo(t *testing.T) {
	t.Parallel()
	v, dir := volume(t, nil)
	m, err := v.Metadata()
	if err != nil || m.Architecture != "" {
		t.Fatalf("without an image: %+v %v", m, err)
	}
	names, err := v.Names()
	if err != nil || len(names) != 0 || names == nil {
		t.Fatalf("names: %v %v", names, err)
	}
	must(t, v.SetTemplate("b.tpl", []byte("two")))
	must(t, v.SetTemplate("a.tpl", []byte("one")))
	must(t, v.SetTemplate("a.tpl", []byte("one again")))
	if names, _ = v.Names(); strings.Join(names, " ") != "a.tpl b.tpl" {
		t.Errorf("names: %v", names)
	}
	if b, err := v.Template("a.tpl"); err != nil || string(b) != "one again" {
		t.Errorf("%q %v", b, err)
	}
	m.Templates = map[string]*api.ImageMetadataTemplate{"/etc/x": {When: []string{"create"}, Template: "a.tpl"}}
	must(t, v.SetMetadata(m))
	if m, err = v.Metadata(); err != nil || m.Templates["/etc/x"].Template != "a.tpl" {
		t.Errorf("%+v %v", m, err)
	}
	must(t, v.DeleteTemplate("a.tpl"))
	for _, err := range []error{v.DeleteTemplate("a.tpl"), func() error { _, err := v.Template("a.tpl"); return err }()} {
		if !errs.Is(err, errs.KindNotFound) {
			t.Errorf("gone: %v", err)
		}
	}
	for _, name := range []string{"", "..", "a/b", "../metadata.yaml", "a\x00"} {
		if err := v.SetTemplate(name, nil); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	m.Templates["/etc/y"] = &api.ImageMetadataTemplate{Template: "../../x"}
	if err := v.SetMetadata(m); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("a template outside: %v", err)
	}
	ents, err := os.ReadDir(dir)
	must(t, err)
	if len(ents) != 3 {
		t.Errorf("the folder holds %v", ents)
	}
}

func TestAFullFolderStillTakesChanges(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for n := range 1024 {
		files[fmt.Sprintf("templates/t%d.tpl", n)] = "x"
	}
	v, _ := volume(t, files)
	must(t, v.SetTemplate("t7.tpl", []byte("y")))
	if b, err := v.Template("t7.tpl"); err != nil || string(b) != "y" {
		t.Errorf("%q, %v", b, err)
	}
	if err := v.SetTemplate("one-more.tpl", []byte("y")); errs.Status(err) != 400 {
		t.Errorf("one more: %v", err)
	}
}
