package backup_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/instance/backup"
	"sett/shared/api"
)

func TestFilesOfManyValuesAreNotRead(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"a,", "{},", "[],", "\n- a"} {
		text := "container: {name: c1}\nsnapshots: [" + strings.Repeat(value, 1<<19) + "]\n"
		if value[0] == '\n' {
			text = "snapshots:" + strings.Repeat(value, 1<<19) + "\n"
		}
		if _, err := backup.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "more than 300000 values") {
			t.Errorf("%q: %.100v", value, err)
		}
	}
	if _, err := backup.Parse([]byte("container: {name: c1}\nsnapshots: [" + strings.Repeat("{},", 1000) + "]\n")); err != nil {
		t.Error(err)
	}
}

// TestTheFileIsWrittenWhateverIsInItsPlace: archives bring what they like.
func TestTheFileIsWrittenWhateverIsInItsPlace(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(outside, []byte("mine"), 0o600))
	for what, put := range map[string]func(path string) error{
		"folder": func(path string) error { return os.MkdirAll(filepath.Join(path, "full"), 0o700) },
		"link":   func(path string) error { return os.Symlink(outside, path) },
		"file":   func(path string) error { return os.WriteFile(path, []byte("theirs"), 0o600) },
	} {
		dir := t.TempDir()
		must(put(filepath.Join(dir, "backup.yaml")), put(filepath.Join(dir, ".backup.yaml")))
		must(backup.Keep(dir, &backup.Config{Container: &api.Instance{Name: "c1"}}))
		if c, err := backup.Load(dir); err != nil || c.Container.Name != "c1" {
			t.Errorf("%s: %+v, %v", what, c, err)
		}
		must(put(filepath.Join(dir, ".backup.yaml")), backup.Forget(dir))
		if es, _ := os.ReadDir(dir); len(es) > 0 {
			t.Errorf("%s: left %v", what, es)
		}
	}
	if b, _ := os.ReadFile(outside); string(b) != "mine" {
		t.Errorf("the file outside holds %q", b)
	}
}
