#!/bin/bash
# run.sh: from built binaries to a Debian 12 system container that answers, in a folder of its own.
#
#   run.sh            start the daemon (or use the one that runs), make image and container c1
#   run.sh --remove   delete the instances, stop the daemon, take all away except the cached image
#
# Everything lies in $SETT_RUN_DIR (build/run by default): the daemon's state, the client's
# configuration, the log and 'env' to source. An LXD or another Sett on this host is not touched:
# the bridge has a name of its own and a subnet that the daemon picks from what the routes leave free.
set -euo pipefail

top=$(cd "$(dirname "$0")/../.." && pwd)
link=$top/build/run
run=${SETT_RUN_DIR:-$link}
images=$top/build/images
export LXD_DIR=$run/lxd LXD_CONF=$run/conf
lxd=$top/bin/lxd lxc=$top/bin/lxc

say() { echo "==> $*"; }
die() { echo "run: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "this needs root"
case $run in /*) ;; *) die "SETT_RUN_DIR must be an absolute path, not $run" ;; esac
# Containers reach their files with ids of their own, so every folder above must let others pass
# through; and a unix socket's path holds at most 107 bytes, with some lying deeper than LXD_DIR.
unfit() {
	local d=$run
	[ ${#run} -le 64 ] || { echo "its path is longer than 64 characters, too long for unix sockets"; return; }
	while [ "$d" != / ]; do
		d=$(dirname "$d")
		[ ! -d "$d" ] || [ $((0$(stat -c %a "$d") & 1)) = 1 ] || { echo "containers may not pass through $d (chmod o+x would let them)"; return; }
	done
}
why=$(unfit)
if [ -n "$why" ]; then
	[ -z "${SETT_RUN_DIR:-}" ] || die "SETT_RUN_DIR=$run will not do: $why"
	# A clone in a private home is nothing unusual: keep the state outside and leave a link.
	run=/var/lib/sett-run-$(sha256sum <<<"$top" | cut -c1-8)
	[ -d "$run" ] || [ "${1:-}" = --remove ] || say "keeping state in $run: for $link, $why"
	mkdir -p "$run" "$top/build"
	ln -sfn "$run" "$link"
	export LXD_DIR=$run/lxd LXD_CONF=$run/conf
fi
# pid prints the process id of our daemon, or nothing when it does not run. A pid may have been
# given to somebody else since, so the program behind it is looked at.
pid() {
	local p
	p=$(cat "$run/lxd.pid" 2>/dev/null) || return 0
	[ -n "$p" ] && [ "$(readlink "/proc/$p/exe" 2>/dev/null | sed 's/ (deleted)$//')" = "$lxd" ] || return 0
	echo "$p"
}

# retry SECONDS COMMAND... runs COMMAND each quarter of a second until it succeeds.
retry() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.25
	done
}

start_daemon() {
	if [ -n "$(pid)" ]; then
		say "using the daemon that runs already (process $(pid))"
	else
		[ ! -S "$LXD_DIR/unix.socket" ] || ! "$lxd" waitready --timeout 1 2>/dev/null ||
			die "another daemon serves $LXD_DIR; stop it first, or set SETT_RUN_DIR"
		mkdir -p "$LXD_DIR" "$LXD_CONF"
		chmod 711 "$run" "$LXD_DIR"
		say "starting the daemon in $LXD_DIR"
		setsid "$lxd" --logfile "$run/lxd.log" >"$run/lxd.out" 2>&1 </dev/null &
		echo $! >"$run/lxd.pid"
	fi
	if ! "$lxd" waitready --timeout 30; then
		tail -n 20 "$run/lxd.out" "$run/lxd.log" >&2 || true
		die "the daemon did not become ready; its log is $run/lxd.log"
	fi
	cat >"$run/env" <<-END
		export LXD_DIR=$LXD_DIR LXD_CONF=$LXD_CONF PATH=$top/bin:\$PATH
	END
}

# free_bridge prints a bridge name that nothing on this host has.
free_bridge() {
	local i
	for i in $(seq 0 99); do
		[ -e "/sys/class/net/settbr$i" ] || { echo "settbr$i"; return; }
	done
	die "all bridge names from settbr0 to settbr99 are taken"
}

# pool_yaml prints the storage pool: btrfs in a loop file where this kernel can, else a folder.
pool_yaml() {
	echo "- name: default"
	if command -v mkfs.btrfs >/dev/null && { grep -qw btrfs /proc/filesystems || modprobe -q btrfs; } && [ -e /dev/loop-control ]; then
		echo "  driver: btrfs"
		echo "  config: {size: 10GiB}"
	else
		echo "  driver: dir"
	fi
}

set_up() {
	if "$lxc" storage show default >/dev/null 2>&1; then
		return
	fi
	local bridge
	bridge=$(free_bridge)
	say "making a storage pool, the bridge $bridge and the default profile"
	"$lxd" init --preseed <<-END
		networks:
		- name: $bridge
		  type: bridge
		storage_pools:
		$(pool_yaml)
		profiles:
		- name: default
		  devices:
		    root: {type: disk, path: /, pool: default}
		    eth0: {type: nic, network: $bridge, name: eth0}
	END
	echo "$bridge" >"$run/bridge"
}

import_image() {
	if "$lxc" image info debian/12 >/dev/null 2>&1; then
		return
	fi
	local files
	mapfile -t files < <("$top/test/run/mkimage.sh" "$images")
	[ ${#files[@]} = 2 ] || die "the image could not be built"
	say "importing the image as debian/12"
	"$lxc" image import "${files[@]}" --alias debian/12
}

booted() {
	[ "$("$lxc" exec c1 -- systemctl is-system-running --wait 2>/dev/null </dev/null)" = running ]
}
addressed() {
	[ -n "$("$lxc" list '^c1$' --columns 4 --format csv)" ]
}

launch() {
	case $("$lxc" list '^c1$' --columns s --format csv) in
	"")
		say "launching c1"
		"$lxc" launch debian/12 c1 </dev/null
		;;
	RUNNING) ;;
	*) "$lxc" start c1 ;;
	esac
	retry 60 booted || die "systemd in c1 is $("$lxc" exec c1 -- systemctl is-system-running </dev/null || true), not running; look at: $lxc exec c1 -- systemctl --failed"
	retry 30 addressed || die "c1 got no IPv4 address from the bridge"
}

show() { # COMMAND... prints it and runs it
	printf '\n$ %s\n' "$*"
	case $1 in lxc) shift && "$lxc" "$@" </dev/null ;; esac
}

tour() {
	show lxc list
	show lxc exec c1 -- systemctl is-system-running
	show lxc exec c1 -- systemd-analyze time
	show lxc exec c1 -- grep PRETTY /etc/os-release
	cat <<-END

		A Debian 12 system runs in c1. Go on with:

		    . $run/env            # as root: sets PATH, LXD_DIR and LXD_CONF
		    lxc exec c1 -- bash
		    lxc launch debian/12 c2
		    lxc --help

		Stop and remove all of it:

		    make clean-run
	END
}

# remove undoes everything by the API where the daemon answers, and then looks at what is left, so
# that a run that broke half-way goes too.
remove() {
	[ -d "$run" ] || { say "nothing to remove"; return; }
	if [ -n "$(pid)" ] || [ -e "$LXD_DIR/database" ]; then
		start_daemon
		local i
		for i in $("$lxc" list --columns n --format csv); do "$lxc" delete --force "$i"; done
		for i in $("$lxc" image list --columns f --format csv); do "$lxc" image delete "$i"; done
		printf 'config: {}\ndevices: {}\n' | "$lxc" profile edit default
		[ ! -s "$run/bridge" ] || "$lxc" network delete "$(cat "$run/bridge")" || true
		"$lxc" storage delete default || true
		"$lxd" shutdown --timeout 60 || kill "$(pid)"
		retry 30 stopped || die "the daemon (process $(pid)) does not stop"
	fi
	local m
	awk -v p="$run/" 'index($5, p) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
		while read -r m; do umount "$m" || umount -l "$m"; done
	rm -rf --one-file-system "$run"
	[ ! -L "$link" ] || rm "$link"
	say "removed $run (the image stays in $images)"
}
stopped() { [ -z "$(pid)" ]; }

if [ "${1:-}" = --remove ]; then
	remove
	exit
fi
for b in lxd lxc lxd-shim; do [ -x "$top/bin/$b" ] || die "bin/$b is missing; run 'make build'"; done
start_daemon
set_up
import_image
launch
tour
