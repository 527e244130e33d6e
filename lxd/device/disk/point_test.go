package disk

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"sett/lxd/container"
	"sett/shared/errs"
)

func TestBlockDevicesAreRefused(t *testing.T) {
	t.Parallel()
	for mode, want := range map[fs.FileMode]container.Create{
		fs.ModeDir: container.CreateDir, 0: container.CreateFile, fs.ModeSocket: container.CreateFile,
		fs.ModeDevice | fs.ModeCharDevice: container.CreateFile, fs.ModeDevice: -1,
	} {
		fi, err := fstest.MapFS{"x": {Mode: mode}}.Stat("x")
		if err != nil {
			t.Fatal(err)
		}
		got, err := point(fi)
		switch {
		case want < 0 && !errs.Is(err, errs.KindNotImplemented):
			t.Errorf("%v: %v", mode, err)
		case want >= 0 && (err != nil || got != want):
			t.Errorf("%v: %v, %v", mode, got, err)
		}
	}
}
