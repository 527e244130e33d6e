#!/bin/bash
# system.sh: run the tests that need root: everything behind the build tag 'system'.
#
# The system package runs one container test at a time against daemons of its own; the drivers'
# conformance suites run on the real thing in their own packages. Extra arguments go to go test,
# for example: test/lib/system.sh -run TestLaunch -v
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" = 0 ] || { echo "system tests need root" >&2; exit 1; }
export SETT_BIN=$PWD/bin

# Packages with files behind the tag; the others have nothing more to say than in 'make check'.
mapfile -t packages < <(grep -rl --include='*_test.go' '^//go:build.*\bsystem\b' lxd test |
	xargs -r -n 1 dirname | sort -u | sed 's|^|./|')
[ ${#packages[@]} -gt 0 ] || { echo "no system tests found" >&2; exit 1; }

# -p 1: one package at a time. They share the host's loop devices, routes and two cores, and each
# checks that it leaves nothing behind.
go test -tags "libsqlite3 system" -count=1 -p 1 -timeout 25m "$@" "${packages[@]}"
