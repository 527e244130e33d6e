package config

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sett/client"
)

func TestFirstRunHasTheDefaults(t *testing.T) {
	t.Parallel()
	c, first, err := Load(t.TempDir(), "")
	if err != nil || !first || c.DefaultRemote != "local" {
		t.Fatalf("%+v, %v, %v", c, first, err)
	}
	if got := c.Names(); !slices.Equal(got, []string{"images", "local", "ubuntu", "ubuntu-daily"}) {
		t.Errorf("remotes %v", got)
	}
}

func TestFileSurvivesLoadAndSave(t *testing.T) {
	t.Parallel()
	dir, global := t.TempDir(), t.TempDir()
	text := "default-remote: lab\nremotes:\n  lab:\n    addr: https://10.0.0.1:8443\n    auth_type: tls\n    project: p1\n    protocol: lxd\n    public: false\n  local:\n    addr: unix://\n    public: false\naliases:\n  ll: list -c n\n"
	write(t, dir, text)
	write(t, global, "remotes:\n  shared: {addr: 'https://10.0.0.2:8443'}\n  lab: {addr: 'https://ignored:8443'}\n")
	c, first, err := Load(dir, global)
	if err != nil || first {
		t.Fatalf("%v, %v", first, err)
	}
	if c.Remotes["lab"].Addr != "https://10.0.0.1:8443" || !c.Remotes["shared"].Global || !c.Remotes["ubuntu"].Static {
		t.Errorf("remotes %+v", c.Remotes)
	}
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "config.yml"))
	if err != nil || string(got) != text {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestLocalForOneRunIsNotSaved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "default-remote: lab\nremotes:\n  lab: {addr: 'https://10.0.0.1:8443'}\n")
	c, _, err := Load(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	c.UseLocal()
	if remote, _, err := c.ParseRemote("c1"); err != nil || remote != "local" {
		t.Errorf("%q, %v", remote, err)
	}
	c.Aliases["ll"] = "list"
	if err := c.Save(); err != nil {
		t.Fatal(err)
	}
	if c, _, err = Load(dir, ""); err != nil || c.DefaultRemote != "lab" || c.Aliases["ll"] != "list" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestBrokenFileIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "remotes: [")
	if _, _, err := Load(dir, ""); err == nil {
		t.Error("a broken file must not be taken for an empty one")
	}
}

func TestRemotesAreParted(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Dir = t.TempDir()
	for in, want := range map[string][2]string{
		"c1": {"local", "c1"}, "local:c1": {"local", "c1"}, "images:debian/12": {"images", "debian/12"},
		"local:": {"local", ""}, "": {"local", ""}, "c1/snap:1": {"local", "c1/snap:1"},
	} {
		remote, name, err := c.ParseRemote(in)
		if err != nil || remote != want[0] || name != want[1] {
			t.Errorf("%q: %q, %q, %v", in, remote, name, err)
		}
	}
	if _, _, err := c.ParseRemote("nowhere:c1"); err == nil {
		t.Error("an unknown remote is an error")
	}
}

func TestPublicRemotesRunNothing(t *testing.T) {
	t.Parallel()
	c := defaults()
	if _, err := c.InstanceServer(t.Context(), "images", client.ConnectionArgs{}); err == nil {
		t.Error("images: has no instances")
	}
	if _, err := c.ImageServer(t.Context(), "images", client.ConnectionArgs{}); err == nil {
		t.Error("simplestreams is not built, which must be said")
	}
}

func write(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "config.yml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
