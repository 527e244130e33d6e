package cgroup

import (
	"io/fs"
	"strings"
	"testing"
)

const (
	hybridMounts = `30 23 0:25 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:28 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
34 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/systemd/agent,name=systemd
35 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
36 30 0:27 / /mnt/again rw - cgroup cgroup rw,memory
`
	hybridGroups = `9:name=systemd:/init.scope
4:memory:/deep/init.scope
3:freezer:/
2:cpu,cpuacct:/
0::/init.scope
`
)

func TestHybridLayout(t *testing.T) {
	t.Parallel()
	l, err := parse(strings.NewReader(hybridMounts), strings.NewReader(hybridGroups), func(p string) ([]byte, error) {
		if p != "/sys/fs/cgroup/unified/cgroup.controllers" {
			t.Errorf("read %s", p)
		}
		return []byte("hugetlb\n"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if l.Mode() != "hybrid" || len(l.Hierarchies) != 5 {
		t.Errorf("%s: %+v", l.Mode(), l.Hierarchies)
	}
	for c, dir := range map[string]string{
		"memory": "/sys/fs/cgroup/memory/deep/g", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/g",
		"name=systemd": "/sys/fs/cgroup/systemd/g", "hugetlb": "/sys/fs/cgroup/unified/g", "freezer": "/sys/fs/cgroup/freezer/g",
	} {
		h := l.Find(c)
		if h == nil || h.Dir("g") != dir {
			t.Errorf("%s: %+v", c, h)
		}
	}
	for c, file := range map[string]string{"memory": "/dir/tasks", "hugetlb": "/dir/cgroup.procs"} {
		if got := l.Find(c).Entry("/dir"); got != file {
			t.Errorf("%s is entered by %s", c, got)
		}
	}
	if l.Find("pids") != nil {
		t.Error("found a controller that is not there")
	}
}

func TestUnifiedLayout(t *testing.T) {
	t.Parallel()
	l, err := parse(strings.NewReader("30 23 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"),
		strings.NewReader("0::/init.scope\n"),
		func(string) ([]byte, error) { return []byte("cpuset cpu io memory pids\n"), nil })
	if err != nil {
		t.Fatal(err)
	}
	if l.Mode() != "unified" || l.Find("memory").Dir("x") != "/sys/fs/cgroup/x" || !l.Find("freezer").V2 {
		t.Errorf("%s: %+v", l.Mode(), l.Hierarchies)
	}
}

func TestNoHierarchyIsSaid(t *testing.T) {
	t.Parallel()
	_, err := parse(strings.NewReader(""), strings.NewReader(""), func(string) ([]byte, error) { return nil, fs.ErrNotExist })
	if err == nil {
		t.Fatal("no error")
	}
}
