package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sett/lxd/config"
	"sett/shared/errs"
)

var (
	timeout = config.Seconds("boot.timeout", 30*time.Second, config.Doc("How long"))
	nested  = config.Bool("security.nesting", false, config.Live())
	secret  = config.String("core.password", "", config.Secret())
	driver  = config.Enum("driver", "dir", []string{"dir", "btrfs"}, config.Fixed())
	user    = config.Any("user.*", config.Live())
	later   = config.Unbuilt("limits.network")
	table   = config.NewTable(timeout, nested, secret, driver, user, later)
)

func TestGetGivesTypesAndDefaults(t *testing.T) {
	t.Parallel()
	if got := timeout.Get(map[string]string{"boot.timeout": "5"}); got != 5*time.Second {
		t.Errorf("got %v", got)
	}
	if got := timeout.Get(nil); got != 30*time.Second {
		t.Errorf("default: got %v", got)
	}
	for _, v := range []string{"true", "1", "yes", "on", "TRUE"} {
		if !nested.Get(map[string]string{"security.nesting": v}) {
			t.Errorf("%q is not true", v)
		}
	}
}

func TestValidateTellsAllThatIsWrong(t *testing.T) {
	t.Parallel()
	err := table.Validate(map[string]string{"boot.timeout": "soon", "nope": "1", "user.anything": "x", "driver": "zfs", "security.nesting": ""})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`"boot.timeout"`, `Unknown configuration key "nope"`, `"zfs" is not one of dir, btrfs`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	if errs.Status(err) != 400 {
		t.Errorf("status %d", errs.Status(err))
	}
}

func TestFamilyNeedsAName(t *testing.T) {
	t.Parallel()
	if table.Validate(map[string]string{"user.": "x"}) == nil {
		t.Error("an empty name in a family was accepted")
	}
}

func TestUnbuiltKeysAreRefusedByName(t *testing.T) {
	t.Parallel()
	err := table.Validate(map[string]string{"limits.network": "1"})
	if errs.Status(err) != 501 || !strings.Contains(err.Error(), "limits.network") {
		t.Errorf("got %v", err)
	}
}

func TestDiffSortsLiveFromLater(t *testing.T) {
	t.Parallel()
	d, err := table.Diff(
		map[string]string{"boot.timeout": "1", "security.nesting": "true", "user.a": "1"},
		map[string]string{"boot.timeout": "2", "security.nesting": "true", "user.b": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.Live, []string{"user.a", "user.b"}) || !slices.Equal(d.Later, []string{"boot.timeout"}) {
		t.Errorf("got %+v", d)
	}
	if _, err := table.Diff(map[string]string{"driver": "dir"}, map[string]string{"driver": "btrfs"}); err == nil {
		t.Error("a fixed key changed")
	}
}

func TestRedactHidesSecrets(t *testing.T) {
	t.Parallel()
	got := table.Redact(map[string]string{"core.password": "hunter2", "user.x": "y"})
	if got["core.password"] != true || got["user.x"] != "y" {
		t.Errorf("got %v", got)
	}
}
