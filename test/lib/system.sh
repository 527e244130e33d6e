#!/bin/bash
# system.sh: run the tests that need root: everything behind the build tag 'system', or the packages
# that are named.
#
# The system package runs one container test at a time against daemons of its own, and at last those
# that wait more than they work (t.Parallel) as many at a time as there are processors. The drivers'
# conformance suites run on the real thing in their own packages. Other arguments go to go test,
# for example: test/lib/system.sh -v -run TestLife ./test/system
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" = 0 ] || { echo "system tests need root" >&2; exit 1; }
export SETT_BIN=$PWD/bin

packages=() flags=() ends=()
trap 'for e in "${ends[@]}"; do eval "$e"; done' EXIT
for arg; do
	case $arg in ./*) packages+=("$arg") ;; *) flags+=("$arg") ;; esac
done
if [ ${#packages[@]} = 0 ]; then
	# Packages with files behind the tag; the others have nothing more to say than in 'make check'.
	mapfile -t packages < <(grep -rl --include='*_test.go' '^//go:build.*\bsystem\b' lxd test |
		xargs -r -n 1 dirname | sort -u | sed 's|^|./|')
	# The image of a whole Debian takes a while, most of it spent waiting for the mirror and
	# the disk. TestDebianBoots waits for it, and builds it again should this fail.
	setsid test/run/mkimage.sh build/images >/dev/null &
	image=$!
	# Nobody needs it any more when the tests have ended before it is there.
	ends+=('kill -- -"$image" 2>/dev/null || true; wait "$image" || true')
fi

# -p 1: one package at a time. They share the host's loop devices, routes and two cores, and each
# checks that it leaves nothing behind.
log=$(mktemp)
ends+=('rm -f "$log"')
go test -tags "libsqlite3 system" -count=1 -p 1 -timeout 45m "${flags[@]}" "${packages[@]}" 2>&1 | tee "$log" || {
	awk -f test/lib/failures.awk "$log"
	exit 1
}
