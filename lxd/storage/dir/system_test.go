//go:build system

package dir_test

import (
	"testing"

	"sett/lxd/storage/dir"
	"sett/lxd/storage/driver/drivertest"
)

func TestConformanceOnSource(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Options{Kind: dir.Kind{}, Config: map[string]string{"source": t.TempDir()}})
}
