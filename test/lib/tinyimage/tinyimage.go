// Package tinyimage makes a container image of two megabytes for tests: a static
// busybox, a shell script as init, an address by DHCP.
//
// It starts in milliseconds and answers like a system does: it stops on SIGPWR,
// reboots on SIGTERM, has users, a writable /tmp and the usual commands.
package tinyimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Busybox is where Debian's busybox-static puts its program.
const Busybox = "/bin/busybox"

const initScript = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
# The signals that init gets: from the manager, from poweroff and halt, from reboot.
trap 'poweroff -f' PWR USR1 USR2
trap 'reboot -f' TERM INT
mount -t tmpfs -o mode=1777 tmpfs /tmp 2>/dev/null
mkdir -p /run /var/run
ip link set lo up 2>/dev/null
[ -e /sys/class/net/eth0 ] && udhcpc -b -R -i eth0 -s /etc/udhcpc.script -x hostname:$(hostname) >/dev/null 2>&1 &
echo booted >/run/booted
# wait returns when a signal has come and collects the processes that init inherits.
while :; do sleep 3600 & wait $!; done
`

const udhcpcScript = `#!/bin/sh
case $1 in
deconfig) ip link set "$interface" up; ip addr flush dev "$interface" ;;
bound | renew)
	ip addr flush dev "$interface"
	ip addr add "$ip/${mask:-24}" dev "$interface"
	[ -z "$router" ] || ip route replace default via "${router%% *}"
	: >/etc/resolv.conf
	[ -z "$domain" ] || echo "search $domain" >>/etc/resolv.conf
	for d in $dns; do echo "nameserver $d" >>/etc/resolv.conf; done
	;;
esac
`

// Options change what is in an image. The zero value is what most tests want.
type Options struct {
	Name  string            // description and os property; "tiny"
	Files map[string]string // more files, absolute paths, mode 0644
}

// Write writes the image as a unified gzipped tarball: metadata.yaml, templates/, rootfs/.
func Write(w io.Writer, o Options) error {
	bb, err := busybox()
	if err != nil {
		return err
	}
	applets, err := exec.Command(Busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("list the applets of %s: %w", Busybox, err)
	}
	if o.Name == "" {
		o.Name = "tiny"
	}
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
	t := &tarball{w: tar.NewWriter(z), now: time.Unix(1700000000, 0)}

	t.file("metadata.yaml", 0o644, metadata(o.Name))
	t.dir("templates", 0o755)
	t.file("templates/hostname.tpl", 0o644, "{{ container.name }}\n")
	for _, d := range []string{"", "bin", "sbin", "usr", "usr/bin", "usr/sbin", "etc", "dev", "proc", "sys", "run", "var", "var/log", "mnt", "home"} {
		t.dir("rootfs/"+d, 0o755)
	}
	t.dir("rootfs/root", 0o700)
	t.dir("rootfs/tmp", 0o1777)
	t.file("rootfs/bin/busybox", 0o755, string(bb))
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" && a != "init" {
			t.link("rootfs/bin/"+a, "busybox")
		}
	}
	t.file("rootfs/sbin/init", 0o755, initScript)
	t.file("rootfs/etc/udhcpc.script", 0o755, udhcpcScript)
	t.file("rootfs/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
	t.file("rootfs/etc/group", 0o644, "root:x:0:\nuser:x:1000:\n")
	t.file("rootfs/etc/hostname", 0o644, "tiny\n")
	t.file("rootfs/etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost\n")
	t.file("rootfs/etc/resolv.conf", 0o644, "")
	t.dirAs("rootfs/home/user", 0o755, 1000)
	t.fileAs("rootfs/home/user/mine", 0o640, 1000, "owned by 1000\n")
	for path, content := range o.Files {
		t.file("rootfs/"+strings.TrimPrefix(path, "/"), 0o644, content)
	}
	if t.err != nil {
		return t.err
	}
	if err := t.w.Close(); err != nil {
		return err
	}
	return z.Close()
}

// Create writes the image to a file.
func Create(path string, o Options) error {
	var b bytes.Buffer
	if err := Write(&b, o); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func metadata(name string) string {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	return fmt.Sprintf(`architecture: %[1]s
creation_date: 1700000000
properties:
  architecture: %[1]s
  description: %[2]s test image
  os: %[2]s
  release: "1"
templates:
  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
`, arch, name)
}

// busybox reads the program and refuses one that would miss its libraries inside.
func busybox() ([]byte, error) {
	b, err := os.ReadFile(Busybox)
	if err != nil {
		return nil, fmt.Errorf("the test image needs the package busybox-static ('make deps'): %w", err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Busybox, err)
	}
	if libs, _ := f.ImportedLibraries(); len(libs) > 0 {
		return nil, fmt.Errorf("%s is linked dynamically; the test image needs the package busybox-static ('make deps')", Busybox)
	}
	return b, nil
}

// tarball keeps the first error, so that the list above reads as a list.
type tarball struct {
	w   *tar.Writer
	now time.Time
	err error
}

func (t *tarball) add(h tar.Header, content string) {
	if t.err != nil {
		return
	}
	h.Size, h.ModTime, h.Format = int64(len(content)), t.now, tar.FormatPAX
	if t.err = t.w.WriteHeader(&h); t.err == nil {
		_, t.err = io.WriteString(t.w, content)
	}
}

func (t *tarball) dir(name string, mode int64) { t.dirAs(name, mode, 0) }

func (t *tarball) dirAs(name string, mode int64, id int) {
	t.add(tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimSuffix(name, "/") + "/", Mode: mode, Uid: id, Gid: id}, "")
}

func (t *tarball) file(name string, mode int64, content string) { t.fileAs(name, mode, 0, content) }

func (t *tarball) fileAs(name string, mode int64, id int, content string) {
	t.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Uid: id, Gid: id}, content)
}

func (t *tarball) link(name, target string) {
	t.add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, "")
}
