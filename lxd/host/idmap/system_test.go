//go:build system

package idmap_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/host/idmap"
)

var guest = idmap.Map{{UID: true, GID: true, HostID: 1000000, Range: 65536}}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("changing ids needs root")
	}
}

func TestUserNamespaceHasItsMap(t *testing.T) {
	t.Parallel()
	needRoot(t)
	ns, err := idmap.UserNS(guest)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	cmd := exec.Command("nsenter", "--user=/proc/self/fd/3", "cat", "/proc/self/uid_map", "/proc/self/setgroups")
	cmd.ExtraFiles = []*os.File{ns}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "         0    1000000      65536\nallow\n" {
		t.Errorf("%q %v", out, err)
	}
}

func TestMountableProbesTheFileSystem(t *testing.T) {
	t.Parallel()
	needRoot(t)
	h := idmap.NewHost()
	defer h.Close()
	if !h.Mountable(context.Background(), t.TempDir()) {
		t.Error("a plain folder takes no idmapped mount")
	}
	if h.Mountable(context.Background(), "/proc") {
		t.Error("proc takes idmapped mounts")
	}
	d := t.TempDir()
	for _, n := range []string{"l", "u", "w", "m"} {
		if err := os.Mkdir(filepath.Join(d, n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("overlay", d+"/m", "overlay", 0, "lowerdir="+d+"/l,upperdir="+d+"/u,workdir="+d+"/w"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(d+"/m", 0)
	if h.Mountable(context.Background(), d+"/m") {
		t.Error("overlay takes idmapped mounts")
	}
}

func TestShiftChangesATreeAndBack(t *testing.T) {
	t.Parallel()
	needRoot(t)
	d := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	script := `set -e; cd "$1"; mkdir -p a/b; echo x >a/f; chown 5:6 a/f; ln a/f a/b/second; ln -s "$2" a/link; chown -h 7:8 a/link
mkfifo a/p; cp /bin/true a/suid; chown 9:10 a/suid; chmod 6755 a/suid; cp /bin/true a/caps; setcap cap_net_raw+ep a/caps
setfacl -m u:33:rwx -m d:g:44:rx a/b; echo keep >"$2"`
	if out, err := exec.Command("sh", "-c", script, "sh", d, outside).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	look := func() string {
		out, err := exec.Command("sh", "-c", `cd "$1"; find . -mindepth 1 ! -name second -printf '%p %U:%G %m\n' | sort; getcap -n a/caps; getfacl -np a/b | grep -E '33|44'; stat -c %u "$2"`, "sh", d, outside).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	before := look()
	ctx := context.Background()
	if err := idmap.Shift(ctx, d, nil, guest); err != nil {
		t.Fatal(err)
	}
	const want = `./a 1000000:1000000 755
./a/b 1000000:1000000 775
./a/caps 1000000:1000000 755
./a/f 1000005:1000006 644
./a/link 1000007:1000008 777
./a/p 1000000:1000000 644
./a/suid 1000009:1000010 6755
a/caps cap_net_raw=ep [rootid=1000000]
user:1000033:rwx
default:group:1000044:r-x
0
`
	if got := look(); got != want {
		t.Errorf("shifted:\n%s", got)
	}
	other := idmap.Map{{UID: true, GID: true, HostID: 2000000, Range: 65536}}
	if err := idmap.Shift(ctx, d, guest, other); err != nil {
		t.Fatal(err)
	}
	if err := idmap.Shift(ctx, d, other, nil); err != nil {
		t.Fatal(err)
	}
	if got := look(); got != before {
		t.Errorf("back:\n%s\nwas:\n%s", got, before)
	}
}
