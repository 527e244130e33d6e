package cluster_test

import (
	"testing"

	"sett/lxd/cluster"
)

func TestHereFollowsTheMember(t *testing.T) {
	t.Parallel()
	var none *cluster.Here
	h := cluster.Alone()
	for _, x := range []*cluster.Here{none, h} {
		if x.Clustered() || x.ID() != 1 || x.Name() != "none" || x.Location() != "none" || x.Address() != "" {
			t.Errorf("a lone server is %+v", x.Member())
		}
	}
	h.Set(cluster.Member{ID: 3, Name: "m3", Address: "10.0.0.3:8443"})
	if !h.Clustered() || h.ID() != 3 || h.Location() != "m3" || h.Address() != "10.0.0.3:8443" {
		t.Errorf("a member is %+v", h.Member())
	}
	h.Leave()
	if h.Clustered() || h.Name() != "none" {
		t.Errorf("after leaving it is %+v", h.Member())
	}
}
