#!/bin/bash
# deps.sh: bring what a Debian 12 or 13 machine lacks to build, run and test Sett.
#
# Installs packages by apt (only those that are missing; no apt call when none is), gives root the
# subordinate ids that unprivileged containers are mapped to, fetches the Go modules, and says
# plainly what it cannot bring: Go itself. It may run any number of times.
#
# On a machine other than Debian it checks and reports, and installs nothing.
set -euo pipefail

go_needed=1.26

build=(gcc libc6-dev pkg-config make git ca-certificates gettext
	libdqlite-dev libraft-dev libsqlite3-dev lxc-dev)
run=(liblxc-common lxcfs uidmap nftables dnsmasq-base kmod
	squashfs-tools tar gzip bzip2 xz-utils zstd lz4 btrfs-progs e2fsprogs)
test=(mmdebstrap debian-archive-keyring busybox-static libcap2-bin acl attr iproute2 procps sshfs strace
	chromium fonts-dejavu-core)

say() { echo "deps: $*"; }
die() { echo "deps: $*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# --- Go: checked first, since nothing else is worth the wait without it ------------------------

check_go() {
	command -v go >/dev/null || die "Go is not installed (or not on PATH). Sett needs Go $go_needed or newer; get it from https://go.dev/dl/, then run 'make deps' again."
	local have
	# GOTOOLCHAIN=local: the version that is here, not the one that go would fetch.
	have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || have=unknown
	have=${have#go}
	[ "$(printf '%s\n%s\n' "$go_needed" "$have" | sort -V | head -n 1)" = "$go_needed" ] ||
		die "Go $have is too old. Sett needs Go $go_needed or newer; get it from https://go.dev/dl/, then run 'make deps' again."
}

# --- packages ----------------------------------------------------------------------------------

missing_packages() {
	local installed
	installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | awk '$1 == "installed" { print $2 }')
	printf '%s\n' "${build[@]}" "${run[@]}" "${test[@]}" | grep -vxF -f <(echo "$installed") || true
}

install_packages() {
	local missing
	mapfile -t missing < <(missing_packages)
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing ${missing[*]}"
	# The usual reason for a refusal is an old or empty package list.
	apt_install --simulate "${missing[@]}" >/dev/null 2>&1 || as_root apt-get -q update
	apt_install "${missing[@]}" || die "apt could not install: ${missing[*]}"
}

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "$@"
}

# --- subordinate ids ---------------------------------------------------------------------------

# add_range FILE gives root a range that no other user has a part of, starting at 1000000 where
# that is free, and as long as fits below 2^32, up to 1000000000 ids.
add_range() {
	local file=$1 range
	[ -e "$file" ] || as_root install -m 644 /dev/null "$file"
	range=$(awk -F: '
		$1 == "root" || $1 == "0" { if ($3 >= 65536) have = 1 }
		NF == 3 && $2 + $3 > end { end = $2 + $3 }
		END {
			if (have) exit
			start = 1000000
			if (end > start) start = int((end + 65535) / 65536) * 65536
			size = 1000000000
			if (start + size > 4294967295) size = 4294967295 - start
			if (size < 65536) { print "full"; exit }
			printf "root:%d:%d\n", start, size
		}' "$file")
	case $range in
	"") ;;
	full) die "$file has no room for 65536 more ids; free a range and run 'make deps' again" ;;
	*)
		say "adding $range to $file"
		[ -z "$(tail -c 1 "$file")" ] || echo | as_root tee -a "$file" >/dev/null
		echo "$range" | as_root tee -a "$file" >/dev/null
		;;
	esac
}

check_go
if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
	install_packages
else
	say "this is not a Debian system; install the equivalents of: ${build[*]} ${run[*]} ${test[*]}"
fi
add_range "${SUBUID:-/etc/subuid}"
add_range "${SUBGID:-/etc/subgid}"
cd "$(dirname "$0")/../.."
go mod download
# The tests of our dependencies are not downloaded by that; 'make check' compares go.mod with them.
go mod tidy -diff >/dev/null 2>&1 || true
# Packages of the web interface, where node and npm are. They are never installed from here: a node
# that is there may be of another kind than Debian's.
lxd/ui/web/build.sh --fetch
