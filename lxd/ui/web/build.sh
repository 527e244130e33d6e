#!/bin/bash
# build.sh: build the web interface into lxd/ui/dist, from where the daemon embeds it.
#
# It needs node and npm. Where they are missing, or packages are and there is no network, it says so
# and ends well: the daemon is built without the pages then, and tells those who look for them.
# With --fetch it only brings the packages.
set -euo pipefail
cd "$(dirname "$0")"

needed=20.19

without() { echo "ui: $*; the daemon is built without the web interface" >&2; exit 0; }

command -v node >/dev/null && command -v npm >/dev/null || without "node or npm is not installed"
have=$(node --version 2>/dev/null) || without "node does not run"
have=${have#v}
[ "$(printf '%s\n%s\n' "$needed" "$have" | sort -V | head -n 1)" = "$needed" ] || without "node $have is older than $needed"

# npm notes in there what it has installed.
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
	echo "ui: fetching packages" >&2
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2 || {
		rm -rf node_modules
		without "npm could not fetch the packages"
	}
	touch node_modules/.package-lock.json
fi
[ "${1:-}" = --fetch ] || npm run --silent build >&2
