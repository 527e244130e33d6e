package child

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/host/idmap"
	"sett/lxd/host/seccomp"
	"sett/lxd/shim/wire"
)

func TestSysinfoIsNarrowed(t *testing.T) {
	t.Parallel()
	host := unix.Sysinfo_t{Totalram: 1000, Freeram: 600, Sharedram: 50, Bufferram: 20, Totalswap: 400, Freeswap: 400, Procs: 900, Unit: 4096, Uptime: 5000}
	const page = 4096
	for name, c := range map[string]struct {
		use  use
		want unix.Sysinfo_t
	}{
		"limits": {use{memory: 100 * page, memoryMax: 300 * page, swap: 10 * page, swapMax: 50 * page, shared: 7 * page, processes: 12},
			unix.Sysinfo_t{Totalram: 300 * page, Freeram: 200 * page, Sharedram: 7 * page, Totalswap: 50 * page, Freeswap: 40 * page, Procs: 12}},
		"over the limit": {use{memory: 400 * page, memoryMax: 300 * page, swap: 60 * page, swapMax: 50 * page, shared: 0, processes: 1 << 20},
			unix.Sysinfo_t{Totalram: 300 * page, Totalswap: 50 * page, Procs: 1<<16 - 1}},
		"no limits": {use{memory: 100 * page, memoryMax: -1, swap: 0, swapMax: -1, shared: 0, processes: 3},
			unix.Sysinfo_t{Totalram: 1000 * page, Freeram: 600 * page, Totalswap: 400 * page, Freeswap: 400 * page, Procs: 3}},
		"more than the host": {use{memory: 0, memoryMax: 1 << 60, swap: -1, swapMax: 1 << 60, shared: -1, processes: -1},
			unix.Sysinfo_t{Totalram: 1000 * page, Freeram: 600 * page, Sharedram: 50 * page, Totalswap: 400 * page, Freeswap: 400 * page, Procs: 900}},
	} {
		got := host
		narrow(&got, c.use, 90*time.Second)
		c.want.Unit, c.want.Uptime = 1, 90
		if got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	s := host
	if narrow(&s, use{}, -time.Second); s.Uptime != 0 {
		t.Errorf("up for %d", s.Uptime)
	}
}

func TestOptionsAreTheHosts(t *testing.T) {
	t.Parallel()
	i := &interceptor{req: wire.InterceptRequest{IDs: idmap.Map{{UID: true, GID: true, NSID: 0, HostID: 1000000, Range: 65536}}}}
	for _, c := range []struct {
		fs, data, want string
		ok             bool
	}{
		{"ext4", "errors=panic", "errors=panic,errors=remount-ro", true},
		{"ext2", "", "errors=remount-ro", true},
		{"xfs", "noalign", "noalign", true},
		{"hugetlbfs", "uid=5", "uid=1000005,gid=1000000", true},
		{"hugetlbfs", "uid=70000", "", false},
		{"vfat", "errors=panic", "", false},
		{"btrfs", "ro,fatal_errors=panic,x", "", false},
		{"xfs", strings.Repeat("x", 4095), strings.Repeat("x", 4095), true},
	} {
		got, err := i.mountOptions(seccomp.Mount{FS: c.fs, Data: c.data})
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s %q: %q, %v", c.fs, c.data, got, err)
		}
	}
	for _, fs := range []string{"ext4", "hugetlbfs"} {
		const ours = 4096 // what does not fit below it is cut off
		for n := ours - 64; n < ours; n++ {
			got, err := i.mountOptions(seccomp.Mount{FS: fs, Data: strings.Repeat("x", n)})
			if err == nil && len(got) >= ours || err != nil && n == ours-64 {
				t.Errorf("%s: %d bytes of options become %d: %v", fs, n, len(got), err)
			}
		}
	}
}
