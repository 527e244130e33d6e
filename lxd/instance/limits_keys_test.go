package instance

import (
	"testing"
	"time"

	"sett/lxd/container"
)

func TestCPUTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  map[string]string
		want container.Limits
	}{
		"nothing":  {map[string]string{}, container.Limits{}},
		"share":    {map[string]string{"limits.cpu.allowance": "50%"}, container.Limits{CPUShares: 512}},
		"full":     {map[string]string{"limits.cpu.allowance": "100%", "limits.cpu.priority": "0"}, container.Limits{CPUShares: 1014}},
		"more":     {map[string]string{"limits.cpu.allowance": "200%"}, container.Limits{CPUShares: 2048}},
		"odd":      {map[string]string{"limits.cpu.allowance": "101%"}, container.Limits{CPUShares: 1034}},
		"nearly":   {map[string]string{"limits.cpu.allowance": "0%", "limits.cpu.priority": "0"}, container.Limits{CPUShares: 2}},
		"most":     {map[string]string{"limits.cpu.allowance": "9223372036854775807%"}, container.Limits{CPUShares: 262144}},
		"priority": {map[string]string{"limits.cpu.priority": "3"}, container.Limits{CPUShares: 1017}},
		"time": {map[string]string{"limits.cpu.allowance": "25ms/100ms"},
			container.Limits{CPUShares: 1024, CPUQuota: 25 * time.Millisecond, CPUPeriod: 100 * time.Millisecond}},
	} {
		var l container.Limits
		if err := cpuTime(c.cfg, &l); err != nil || l.CPUShares != c.want.CPUShares || l.CPUQuota != c.want.CPUQuota || l.CPUPeriod != c.want.CPUPeriod {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	for _, bad := range []string{"-1%", "1.5%", "9223372036854775808%", "x%", "25ms", "25/100", "0ms/100ms", "25ms/0ms", "25ms/2000ms", "-1ms/100ms", "%", "/"} {
		if err := checkAllowance(bad); err == nil {
			t.Errorf("allowance %q was taken", bad)
		}
	}
}

func TestMemoryAndDiskLimits(t *testing.T) {
	t.Parallel()
	s := &Service{}
	get := func(cfg map[string]string) container.Limits {
		t.Helper()
		l, err := s.limits(&Instance{Config: cfg})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := get(map[string]string{"limits.memory": "100MiB", "limits.memory.enforce": "soft"}); l.Memory != 0 || l.MemorySoft != 100<<20 || l.MemorySwap != 0 {
		t.Errorf("soft: %+v", l)
	}
	if l := get(map[string]string{"limits.memory": "100MiB", "limits.memory.swap": "false"}); l.Memory != 100<<20 || l.MemorySwap != -1 || l.Swappiness == nil || *l.Swappiness != 0 {
		t.Errorf("no swap: %+v", l)
	}
	if l := get(map[string]string{"limits.memory.swap.priority": "3"}); l.Swappiness == nil || *l.Swappiness != 67 {
		t.Errorf("swap priority: %+v", l)
	}
	for prio, want := range map[string]uint64{"0": 10, "1": 100, "10": 1000} {
		if l := get(map[string]string{"limits.disk.priority": prio}); l.BlkioWeight != want {
			t.Errorf("disk priority %s: %d", prio, l.BlkioWeight)
		}
	}
	if l := get(map[string]string{"limits.hugepages.2MB": "4MiB"}); l.HugepageBytes["2MB"] != 4<<20 {
		t.Errorf("huge pages: %+v", l)
	}
}

func TestSettingsThatAreNotTheInstancesOwn(t *testing.T) {
	t.Parallel()
	s := &Service{keys: Keys()}
	for name, ok := range map[string]bool{
		"net.ipv4.ip_forward": true, "net/ipv4/ip_forward": true, "kernel.shmmax": true, "fs.mqueue.queues_max": true,
		"kernel.core_pattern": false, "vm.swappiness": false, "kernel.modprobe": false, "net.": false, "net..x": false,
		"net.ipv4.x = 1\nlxc.hook.start": false, "": false,
	} {
		if err := s.CheckConfig(map[string]string{"linux.sysctl." + name: "1"}); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	for key, bad := range map[string]string{
		"linux.sysctl.net.ipv4.ip_forward": "1\nlxc.hook.start = /bin/sh", "limits.kernel.nofile": "x", "limits.kernel.nosuch": "1",
		"raw.lxc": "lxc.rootfs.path = /", "limits.memory.enforce": "maybe", "limits.disk.priority": "11", "limits.hugepages.3MB": "1MB",
		"limits.memory.swap": "perhaps",
	} {
		if err := s.CheckConfig(map[string]string{key: bad}); err == nil {
			t.Errorf("%s=%q was taken", key, bad)
		}
	}
}
