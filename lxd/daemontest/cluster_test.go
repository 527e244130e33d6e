package daemontest_test

import (
	"testing"
	"time"

	"sett/lxd/daemontest"
)

func TestClusterForms(t *testing.T) {
	t.Parallel()
	start := time.Now()
	ms := daemontest.Cluster(t, 3)
	t.Logf("formed in %s", time.Since(start))
	for _, m := range ms {
		all, err := m.GetClusterMembers()
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			t.Logf("%+v", x)
		}
	}
}
