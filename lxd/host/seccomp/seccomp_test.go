package seccomp

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sett/shared/errs"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestPolicyText(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]Policy{
		"default": {Rules: []string{DenyIoctl(0x50009401, 25)}},
		"deny":    {Deny: "mkdir errno 1\n[x86_64]\nptrace kill # not here\nopen [1,64,SCMP_CMP_MASKED_EQ,64]\n", NoDefault: true},
		"allow":   {Allow: "read\n\twrite\nexit_group", Intercept: Intercept{Mknod: true}},
		"narrow": {Allow: "mknod\nmknodat allow [2, 4096, SCMP_CMP_MASKED_EQ, 61440]\nmount\nsysinfo\nseccomp\n[x86_64]\nioctl", Intercept: Intercept{Mknod: true, Mount: true, Sysinfo: true},
			Rules: []string{DenyIoctl(0x50009401, 25), DenyIoctl(0x5000940e, 25)}},
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
		"[x86_64":      `"[x86_64" is no name`,
		"a\x00":        "zero byte",
		"read trace":   `"trace" is nothing`,
		"read errno":   "needs the number",
		"read errno x": "needs the number",
		"read kill 9":  "more than what happens",
		// libseccomp would take one of two.
		"read errno 1\nread errno 2": "same calls",
		"mknod errno 1 [1,8192,SCMP_CMP_MASKED_EQ,61440]\nmknod kill [1,8192,SCMP_CMP_MASKED_EQ,61440]":  "same calls",
		"mknod notify [1,8192,SCMP_CMP_MASKED_EQ,61440]\nmknod errno 1":                                  `"mknod errno 1" is about every such call, so that "mknod notify [1,8192`,
		"mknod\n[x86_64]\nmknod notify [1,8192,SCMP_CMP_MASKED_EQ,61440]":                                `"mknod" is about every such call`,
		"[x86]\nmknod\n[x86_64]\nmknod errno 1":                                                          "",
		"read errno 1\nread errno 1":                                                                     "",
		"mknod errno 1 [1,8192,SCMP_CMP_MASKED_EQ,61440]\nmknod kill [1,24576,SCMP_CMP_MASKED_EQ,61440]": "",
	} {
		err := CheckLines(lines)
		if (err == nil) != (bad == "") || err != nil && !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", lines, err)
		}
	}
}

func TestLinesThatSayWhatHolds(t *testing.T) {
	t.Parallel()
	if err := CheckAllow("read allow\nwrite errno 1"); err != nil {
		t.Error(err)
	}
	if err := CheckDeny("read kill\nwrite errno 1 [1, 5, SCMP_CMP_EQ]"); err != nil {
		t.Error(err)
	}
	for _, err := range []error{CheckAllow("read kill"), CheckDeny("read allow [1,5,SCMP_CMP_EQ]"), CheckAllow("read foo"), CheckDeny("read foo")} {
		if errs.Status(err) != 400 {
			t.Error(err)
		}
	}
}

func TestLinesThatUndoOurs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		p   Policy
		bad bool
	}{
		"nothing of ours":      {Policy{Deny: "mkdir errno 1\nbpf notify"}, false},
		"forbidden already":    {Policy{Deny: "kexec_load kill"}, false},
		"asked in vain":        {Policy{Deny: "kexec_load notify"}, true},
		"asked":                {Policy{Deny: "kexec_load notify", NoDefault: true}, false},
		"forced umounts":       {Policy{Deny: "umount2 notify"}, true},
		"all umounts":          {Policy{Deny: "umount2 errno 1"}, false},
		"what is asked about":  {Policy{Deny: "mount errno 1", Intercept: Intercept{Mount: true}}, true},
		"asked about not":      {Policy{Deny: "mount errno 1", Intercept: Intercept{Mknod: true}}, false},
		"a part of it":         {Policy{Deny: "mknod errno 1 [1,24576,SCMP_CMP_MASKED_EQ,61440]", Intercept: Intercept{Mknod: true}}, false},
		"wholly and answered":  {Policy{Deny: "sysinfo errno 38", Intercept: Intercept{Sysinfo: true}}, true},
		"for some programs":    {Policy{Deny: "[x86]\nmknod errno 1", Intercept: Intercept{Mknod: true}}, true},
		"calls of file system": {Policy{Deny: "ioctl notify", Rules: []string{DenyIoctl(1, 25)}}, true},
		"what is allowed":      {Policy{Allow: "ioctl", Rules: []string{DenyIoctl(1, 25)}}, false},
		"all of it the user's": {Policy{Raw: "2\ndenylist\n", Deny: "kexec_load allow"}, false},
	} {
		if err := c.p.Check(); (err != nil) != c.bad || err != nil && errs.Status(err) != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is left of all values without some has none of those, and every other one once.
func TestTheRestIsWhole(t *testing.T) {
	t.Parallel()
	without := []cube{{0xff, 0x0e}, {0xff, 0x17}, {0xf0, 0x90}, {0x0f, 0x03}}
	rest := []cube{{}}
	for _, c := range without {
		rest = minus(rest, c)
	}
	in := func(cs []cube, v uint64) (n int) {
		for _, c := range cs {
			if v&c.mask == c.value {
				n++
			}
		}
		return n
	}
	for v := range uint64(256) {
		want := 1
		if in(without, v) > 0 {
			want = 0
		}
		if got := in(rest, v); got != want {
			t.Errorf("%#x is in %d of %x", v, got, rest)
		}
	}
}

func TestFileSystemsForGuests(t *testing.T) {
	t.Parallel()
	if l, err := ParseMountAllowed(" ext4,,xfs "); err != nil || !reflect.DeepEqual(l, []string{"ext4", "xfs"}) {
		t.Errorf("%q, %v", l, err)
	}
	for _, bad := range []string{"overlay", "proc", "devtmpfs", "sysfs", "ext4,cgroup2", "x y", "../x", "EXT4",
		"virtiofs", "9p", "xenfs", "nfsd", "functionfs", "jffs2", "ubifs", "fuse", "nfs4", "ceph", "somethingnew"} {
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
		"2\ndenylist\nmkdir\terrno 1": false, "2\ndenylist\nmkdir [1,5,SCMP_CMP_EQ]": false, "2\ndenylist\n mkdir errno 1": false, "2\ndenylist\nmkdir errno 1 [1, 5,SCMP_CMP_EQ]": false,
		"2\ndenylist\n[all]\r\nmkdir errno 1 [1,5,SCMP_CMP_EQ] # a\tb": true,
	} {
		if err := CheckRaw(raw); (err == nil) != ok {
			t.Errorf("%q: %v", raw, err)
		}
	}
}
