package seccomp

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestPolicyText(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]Policy{
		"default":   {Rules: []string{DenyIoctl(0x50009401, 25)}},
		"deny":      {Deny: "mkdir errno 1\n[x86_64]\nptrace kill # not here\n", NoDefault: true},
		"allow":     {Allow: "read\nwrite\nexit_group", Intercept: Intercept{Mknod: true}},
		"intercept": {Intercept: everything},
		"compat":    {NoDefault: true, NoCompat: true},
		"raw":       {Raw: "2\ndenylist\n[all]\nmkdir notify\n", NoDefault: true, Deny: "x"},
	} {
		file := filepath.Join("testdata", name+".policy")
		got := p.Text()
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	if p := (Policy{NoDefault: true}); !p.Empty() || p.Text() != "" {
		t.Error("nothing is not empty")
	}
}

func TestListens(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"": false, "2\ndenylist\n[all]\nmkdir notify": true, "2\ndenylist\n[all]\nmkdir errno 1 # notify": false, "notify": false,
		"2\nallowlist\n[all]\nmknod notify [1,8192,SCMP_CMP_MASKED_EQ,61440]": true,
	} {
		if (Policy{Raw: text}).Listens() != want {
			t.Errorf("%q", text)
		}
	}
	for _, i := range []Intercept{{Mknod: true}, {Setxattr: true}, {Sched: true}, {Sysinfo: true}, {Mount: true}} {
		if !(Policy{Intercept: i}).Listens() {
			t.Errorf("%+v", i)
		}
	}
	if (Policy{Intercept: Intercept{Allowed: []string{"ext4"}}}).Listens() {
		t.Error("file systems alone")
	}
}

func TestLinesOfCalls(t *testing.T) {
	t.Parallel()
	for lines, bad := range map[string]string{
		"read\nwrite errno 1\n\n# note\n[x86_64]\nmknod notify [1,8192,SCMP_CMP_MASKED_EQ,61440]\nopen [0,1,SCMP_CMP_EQ]": "",
		"foo bar":      `"bar" is nothing`,
		"lxc.hook = x": `"lxc.hook" is no name`,
		"read;write":   `"read;write" is no name`,
		"a\x00":        "zero byte",
	} {
		err := CheckLines(lines)
		if (err == nil) != (bad == "") || err != nil && !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", lines, err)
		}
	}
}

func TestFileSystemsForGuests(t *testing.T) {
	t.Parallel()
	if l, err := ParseMountAllowed(" ext4,,xfs "); err != nil || !reflect.DeepEqual(l, []string{"ext4", "xfs"}) {
		t.Errorf("%q, %v", l, err)
	}
	for _, bad := range []string{"overlay", "proc", "devtmpfs", "sysfs", "ext4,cgroup2", "x y", "../x", "EXT4"} {
		if l, err := ParseMountAllowed(bad); err == nil {
			t.Errorf("%q was taken as %q", bad, l)
		}
	}
	m, err := ParseMountFUSE("ext4=fuse2fs, ntfs=/usr/bin/ntfs-3g")
	if err != nil || !reflect.DeepEqual(m, map[string]string{"ext4": "fuse2fs", "ntfs": "/usr/bin/ntfs-3g"}) {
		t.Errorf("%q, %v", m, err)
	}
	for _, bad := range []string{"ext4", "ext4=", "ext4=a b", "fuse=x", "fuseblk=x", "fuse.a=x", "=x"} {
		if m, err := ParseMountFUSE(bad); err == nil {
			t.Errorf("%q was taken as %q", bad, m)
		}
	}
	const list = "nodev\tsysfs\nnodev\thugetlbfs\n\text4\n"
	for fs, want := range map[string][2]bool{"ext4": {true, true}, "hugetlbfs": {true, false}, "xfs": {false, false}, "nodev": {false, false}} {
		if k, b := Fstype(list, fs); k != want[0] || b != want[1] {
			t.Errorf("%s: %v %v", fs, k, b)
		}
	}
}

func TestMountOptions(t *testing.T) {
	t.Parallel()
	if o := (Mount{Flags: 1 | 2 | 1024, Data: "a=b,c"}).Options(); o != "ro,nosuid,noatime,a=b,c" {
		t.Error(o)
	}
	host := func(group bool, id int64) (int64, bool) {
		if group {
			id += 1000
		}
		return id + 1000000, id < 70000
	}
	for data, want := range map[string]string{
		"":                               "uid=1000000,gid=1001000",
		"pagesize=2M,uid=5,gid=6":        "pagesize=2M,uid=1000005,gid=1001006",
		"gid=1,size=4M":                  "size=4M,uid=1000000,gid=1001001",
		"uid=99999999":                   "",
		"uid=x":                          "",
		"mode=0700,uid=1,uid=2,min_size": "mode=0700,min_size,uid=1000002,gid=1001000",
	} {
		got, err := HugetlbOptions(data, host)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", data, got, err)
		}
	}
}

func TestRawPolicies(t *testing.T) {
	t.Parallel()
	for raw, ok := range map[string]bool{
		"2\ndenylist\n[all]\nmkdir errno 1\n": true, "2\nblacklist errno 1\nreject_force_umount # x\n[all]": true, "1\nallowlist\n0\n1": true,
		"junk": false, "2": false, "2\n[all]\nmkdir": false, "2\ndenylist\nmkdir maybe": false, "1\nallowlist\n\x00": false, "": false,
	} {
		if err := CheckRaw(raw); (err == nil) != ok {
			t.Errorf("%q: %v", raw, err)
		}
	}
}
