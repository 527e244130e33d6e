package fake_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sett/lxd/storage/driver"
	"sett/lxd/storage/driver/drivertest"
	"sett/lxd/storage/fake"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, instant := range map[string]bool{"copies": false, "instant": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drivertest.Run(t, drivertest.Options{Kind: &fake.Kind{Instant: instant}})
		})
	}
}

func TestFailuresAtEachStepLeaveNothing(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"make", "clone", "quota", "seal"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			boom := errors.New("boom")
			armed := false
			k := &fake.Kind{}
			k.Break(func(s, _ string) error {
				if armed && s == step {
					return boom
				}
				return nil
			})
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "storage-pools"), 0o700); err != nil {
				t.Fatal(err)
			}
			d, err := k.New(driver.Env{Pool: "p", Dir: dir, Logf: t.Logf})
			if err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			if _, err := d.CreatePool(ctx); err != nil {
				t.Fatal(err)
			}
			a := driver.Volume{Type: driver.Container, Name: "a", Config: map[string]string{"size": "1GiB"}}
			if err := d.Create(ctx, a, nil); err != nil {
				t.Fatal(err)
			}
			armed = true
			b := a.Renamed("b")
			err1 := d.Create(ctx, b, nil)
			err2 := d.Copy(ctx, a.Renamed("c"), a, driver.CopyOpts{Quota: 1})
			err3 := d.CreateSnapshot(ctx, a.Snapshot("s"), nil)
			if !errors.Is(errors.Join(err1, err2, err3), boom) {
				t.Fatalf("no step failed: %v, %v, %v", err1, err2, err3)
			}
			if err := d.Close(ctx); err != nil {
				t.Fatal(err)
			}
			for v, err := range map[string]error{"containers/b": err1, "containers/c": err2, "containers-snapshots/a": err3} {
				_, there := os.Lstat(filepath.Join(dir, "storage-pools/p", v))
				if (there == nil) != (err == nil) {
					t.Errorf("%s: %v, but on disk %v", v, err, there)
				}
			}
			es, _ := filepath.Glob(filepath.Join(dir, "storage-pools/p/.sett/*/*"))
			if len(es) > 0 {
				t.Errorf("left: %v", es)
			}
		})
	}
}
