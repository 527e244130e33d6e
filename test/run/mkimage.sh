#!/bin/bash
# mkimage.sh DIR: build a Debian system-container image and print the paths of its two files.
#
# The image is split: a metadata tarball and a squashfs of the root file system, as LXD images
# are. It is built from the mirror that this host's apt uses and kept in DIR under a name made of
# all that goes into it, so a second call with equal inputs only prints the paths.
#
#   SUITE=bookworm         release to build
#   PACKAGES="cloud-init"  packages to add; with cloud-init come the templates that seed it
#   FRESH=1                build again even when the image is there
#
# Needs root, and mmdebstrap or debootstrap.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/usr/bin:/sbin:/bin" # for chroot too, whatever PATH we were given

cache=${1:?usage: mkimage.sh DIR}
suite=${SUITE:-bookworm}
packages=(
	systemd-sysv udev dbus libpam-systemd # networkd waits for ever without udev
	systemd-resolved libnss-myhostname    # names by DHCP, and our own
	iproute2 iputils-ping netbase ca-certificates
	login passwd procps less
	${PACKAGES:-}
)

say() { echo "mkimage: $*" >&2; }
die() { say "$*"; exit 1; }

[ "$(id -u)" = 0 ] || die "building an image needs root"
command -v mksquashfs >/dev/null || die "mksquashfs is missing; 'make deps' installs it"

case $(dpkg --print-architecture) in
amd64) arch=x86_64 ;;
arm64) arch=aarch64 ;;
*) arch=$(uname -m) ;;
esac

# mirrors prints one sources.list line per suite. The host's own mirrors come first, because
# they are the ones known to be reachable from here; file: and cdrom: would not be from inside.
mirrors() {
	local targets key main security lines
	key=/usr/share/keyrings/debian-archive-keyring.gpg
	targets=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
		grep -E '^https?://' | sort -u || true)
	main=$(awk -v s="$suite" '$2 == s && $3 == "main" { print $1; exit }' <<<"$targets")
	[ -n "$main" ] || main=$(awk '$1 ~ /\/debian\/?$/ { print $1; exit }' <<<"$targets")
	security=$(awk -v s="$suite-security" '$2 == s && $3 == "main" { print $1; exit }' <<<"$targets")
	[ -n "$security" ] || security=$(awk '$1 ~ /\/debian-security\/?$/ { print $1; exit }' <<<"$targets")
	main=${main:-http://deb.debian.org/debian/}
	security=${security:-http://deb.debian.org/debian-security/}
	lines="deb [signed-by=$key] $main $suite main
deb [signed-by=$key] $main $suite-updates main
deb [signed-by=$key] $security $suite-security main"
	echo "$lines"
}

# proxies prints how this host's apt reaches its mirrors, in apt.conf syntax.
proxies() {
	apt-config dump --format '%F "%v";%n' Acquire |
		grep -E '^Acquire::(https?|Retries|ForceIPv4)' | grep -v '""' || true
}

sources=$(mirrors)
key=$( (cat "$0"; echo "$suite $arch ${PACKAGES:-}"; echo "$sources") | sha256sum | cut -c1-12)
meta=$cache/debian-$suite-$arch-$key.meta.tar.gz
rootfs=$cache/debian-$suite-$arch-$key.squashfs
done_() { echo "$meta"; echo "$rootfs"; }
# there ends the script when the image is.
there() {
	[ -z "${FRESH:-}" ] && [ -s "$meta" ] && [ -s "$rootfs" ] || return 0
	done_
	exit
}
there

mkdir -p "$cache"
# Whoever comes while the image is being built waits for it.
exec {lock}>"$cache/.lock"
flock --nonblock "$lock" || { say "waiting for another build in $cache"; flock "$lock"; }
there
work=$(mktemp -d "$(realpath "$cache")/build.XXXXXX")
root=$work/rootfs
finish() {
	# debootstrap and package scripts may have mounted something below; never rm -r across it.
	local m
	while read -r m; do umount -l "$m" || true; done \
		< <(awk -v p="$root/" 'index($5, p) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
	rm -rf --one-file-system "$work"
}
trap finish EXIT

started=$SECONDS
proxies >"$work/apt.conf"
include=$(IFS=,; echo "${packages[*]}")
if command -v mmdebstrap >/dev/null; then
	say "building Debian $suite ($arch) with mmdebstrap from $(awk '{ print $3; exit }' <<<"$sources")"
	mmdebstrap --mode=root --variant=minbase --format=directory --quiet \
		--include="$include" --aptopt="$work/apt.conf" \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-include=/usr/share/doc/*/copyright' \
		"$suite" "$root" - <<<"$sources" >&2
elif command -v debootstrap >/dev/null; then
	say "building Debian $suite ($arch) with debootstrap"
	debootstrap --variant=minbase --include="$include" "$suite" "$root" \
		"$(awk '{ print $3; exit }' <<<"$sources")" >"$work/log" 2>&1 ||
		{ tail -n 20 "$work/log" >&2; die "debootstrap failed"; }
	cp "$work/apt.conf" "$root/etc/apt/apt.conf.d/99build"
	echo "$sources" >"$root/etc/apt/sources.list"
	# systemd-resolved has put a link here that leads nowhere while nothing runs.
	rm -f "$root/etc/resolv.conf"
	cp -L /etc/resolv.conf "$root/etc/resolv.conf"
	chroot "$root" sh -ec 'export DEBIAN_FRONTEND=noninteractive
		apt-get -qq update; apt-get -qq -y dist-upgrade' >&2
else
	die "neither mmdebstrap nor debootstrap is installed; 'make deps' installs one"
fi

# --- what makes it a container image ---------------------------------------------------------

cat >"$root/etc/systemd/network/eth0.network" <<-END
	[Match]
	Name=eth0

	[Network]
	DHCP=true

	[DHCPv4]
	UseDomains=true
	UseHostname=false
	# The same machine may come back with another machine-id; its address should not change.
	ClientIdentifier=mac
END
chroot "$root" systemctl --quiet enable systemd-networkd systemd-resolved >&2
# A container must not wait for the network before anybody can log in.
chroot "$root" systemctl --quiet disable systemd-networkd-wait-online systemd-timesyncd >/dev/null 2>&1 || true
# These touch the kernel, which is the host's.
chroot "$root" systemctl --quiet mask sys-kernel-config.mount sys-kernel-debug.mount \
	sys-kernel-tracing.mount systemd-modules-load.service systemd-binfmt.service >&2

ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
rm -f "$root"/etc/{hostname,hosts} # debootstrap copies the host's, mode and all
# Without /etc/hostname a system goes by the name that its container was started with; a server
# that renders the image's templates writes the file itself.
printf '127.0.0.1\tlocalhost\n' >"$root/etc/hosts"
: >"$root/etc/fstab"
: >"$root/etc/machine-id" # made anew at the first boot of each container
rm -f "$root/var/lib/dbus/machine-id"
sed 's/ \[signed-by=[^]]*\]//' <<<"$sources" >"$root/etc/apt/sources.list"
[ ! -d "$root/etc/skel" ] || cp -n "$root"/etc/skel/.[!.]* "$root/root/" || true

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
	"$root"/var/cache/ldconfig/* "$root"/tmp/* "$root"/var/tmp/* "$root"/dev/* \
	"$root"/etc/apt/apt.conf.d/99{build,mmdebstrap} "$root"/var/lib/systemd/random-seed \
	"$root"/etc/ssh/ssh_host_* "$root"/etc/.pwd.lock
# mksquashfs cannot store these, and systemd-tmpfiles sets them again at boot.
! command -v setfacl >/dev/null || setfacl -Rb "$root/var/log/journal" 2>/dev/null || true
find "$root/var/log" -type f -exec truncate -s 0 {} +

# --- the two files ---------------------------------------------------------------------------

now=$(date +%s)
serial=$(date -u -d "@$now" +%Y%m%d_%H%M)
mkdir -p "$work/meta/templates"
cat >"$work/meta/metadata.yaml" <<-END
	architecture: $arch
	creation_date: $now
	properties:
	  architecture: $arch
	  description: Debian $suite $arch ($serial)
	  name: debian-$suite-$arch-default-$serial
	  os: debian
	  release: $suite
	  serial: "$serial"
	  variant: default
	templates:
	  /etc/hostname:
	    when: [create, copy]
	    template: hostname.tpl
	  /etc/hosts:
	    when: [create, copy]
	    template: hosts.tpl
END
echo '{{ container.name }}' >"$work/meta/templates/hostname.tpl"
cat >"$work/meta/templates/hosts.tpl" <<-END
	127.0.0.1	localhost
	127.0.1.1	{{ container.name }}

	::1	localhost ip6-localhost ip6-loopback
	ff02::1	ip6-allnodes
	ff02::2	ip6-allrouters
END
if [ -d "$root/etc/cloud" ]; then
	# Written once for each new instance; cloud-init finds them before it looks anywhere else.
	for file in meta-data user-data vendor-data network-config; do
		cat >>"$work/meta/metadata.yaml" <<-END
			  /var/lib/cloud/seed/nocloud-net/$file:
			    when: [create, copy]
			    template: cloud-$file.tpl
		END
	done
	echo 'locale: false # there are no locales' >"$root/etc/cloud/cloud.cfg.d/90-image.cfg"
	cat >"$work/meta/templates/cloud-meta-data.tpl" <<-END
		instance-id: {{ config_get("volatile.cloud-init.instance-id", container.name) }}
		local-hostname: {{ container.name }}
		{{ config_get("user.meta-data", "") }}
	END
	for kind in user vendor; do
		echo "{{ config_get(\"cloud-init.$kind-data\", config_get(\"user.$kind-data\", \"#cloud-config\")) }}" \
			>"$work/meta/templates/cloud-$kind-data.tpl"
	done
	cat >"$work/meta/templates/cloud-network-config.tpl" <<-END
		{% if config_get("cloud-init.network-config", config_get("user.network-config", "")) == "" %}version: 2
		ethernets:
		  eth0: {dhcp4: true, dhcp6: true, dhcp-identifier: mac}
		{% else %}{{ config_get("cloud-init.network-config", config_get("user.network-config", "")) }}{% endif %}
	END
fi
tar -C "$work/meta" --numeric-owner --owner=0 --group=0 -czf "$work/meta.tar.gz" metadata.yaml templates
# Level 3 packs four times faster than the default and costs a few percent of size.
mksquashfs "$root" "$work/rootfs.squashfs" -comp zstd -Xcompression-level 3 -noappend -quiet -no-progress >&2
mv "$work/meta.tar.gz" "$meta"
mv "$work/rootfs.squashfs" "$rootfs"
say "made $(du -h "$rootfs" | cut -f1) in $((SECONDS - started)) s"
done_
