package lxcfs

import (
	"slices"
	"testing"
)

func TestMountsAreFoundByType(t *testing.T) {
	t.Parallel()
	got := mounts(`29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
91 29 0:46 / /var/lib/lxcfs rw,nosuid shared:2 - fuse.lxcfs lxcfs rw,user_id=0
92 29 0:47 / /mnt/a\040b rw - fuse.lxcfs lxcfs rw
93 29 0:48 / /mnt/c rw - fuse.sshfs x rw
`)
	if !slices.Equal(got, []string{"/var/lib/lxcfs", "/mnt/a b"}) {
		t.Errorf("%q", got)
	}
}
