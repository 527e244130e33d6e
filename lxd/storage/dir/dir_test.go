package dir_test

import (
	"os"
	"path/filepath"
	"testing"

	"sett/lxd/storage/dir"
	"sett/lxd/storage/driver"
	"sett/lxd/storage/driver/drivertest"
	"sett/shared/errs"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Options{Kind: dir.Kind{}})
}

func TestSourceThatIsNotEmptyIsRefusedAndUntouched(t *testing.T) {
	t.Parallel()
	d := t.TempDir()
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(d, "storage-pools"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := dir.Kind{}.New(driver.Env{Pool: "p", Dir: d, Config: map[string]string{"source": src}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.CreatePool(t.Context()); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("got %v", err)
	}
	es, _ := os.ReadDir(src)
	left, _ := os.ReadDir(filepath.Join(d, "storage-pools"))
	if len(es) != 1 || len(left) != 0 {
		t.Errorf("source %v, pools %v", es, left)
	}
}

func TestSourceMustBeAbsoluteAndOutside(t *testing.T) {
	t.Parallel()
	for src, ok := range map[string]bool{
		"": true, "/srv/pool": true, "srv": false, "/srv/../etc": false,
		"/var/lib/lxd/images": false, "/var/lib/lxd": false, "/var/lib/lxd/storage-pools/p": true,
	} {
		err := dir.Kind{}.Validate(t.Context(), driver.Env{Pool: "p", Dir: "/var/lib/lxd", Config: map[string]string{"source": src}})
		if (err == nil) != ok {
			t.Errorf("%q: %v", src, err)
		}
	}
}
