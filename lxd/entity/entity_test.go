package entity_test

import (
	"testing"

	"sett/lxd/entity"
)

func TestURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ref  entity.Ref
		want string
	}{
		{entity.New(entity.Instance, "default", "c1"), "/1.0/instances/c1"},
		{entity.New(entity.Instance, "web", "c1"), "/1.0/instances/c1?project=web"},
		{entity.New(entity.StorageVolume, "default", "p", "custom", "a/b"), "/1.0/storage-pools/p/volumes/custom/a%2Fb"},
		{entity.New(entity.Server, ""), "/1.0"},
		{entity.Ref{Kind: entity.StoragePool, Location: "m1", Names: [3]string{"p"}}, "/1.0/storage-pools/p?target=m1"},
	} {
		if got := c.ref.URL(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	if n := entity.New(entity.InstanceSnapshot, "", "c1", "s0").Name(); n != "s0" {
		t.Errorf("name %q", n)
	}
	if c := entity.ImageAlias.Collection(); c != "images/aliases" {
		t.Errorf("collection %q", c)
	}
}
