package fake_test

import (
	"crypto/rand"
	"testing"

	"sett/lxd/network/driver"
	"sett/lxd/network/driver/drivertest"
	"sett/lxd/network/fake"
)

func TestFakePassesTheSuite(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Subject{
		New:  func(*testing.T) driver.Driver { return fake.New("bridge") },
		Name: func(*testing.T) string { return "t" + rand.Text()[:8] },
	})
}
