#!/bin/bash
# install.sh: put the binaries of bin/, the systemd units and the shell completion below
# $DESTDIR$PREFIX, or take them away again with --remove. Run by 'make install' and 'make uninstall'.
set -euo pipefail
cd "$(dirname "$0")/../.."

prefix=${PREFIX:-/usr/local}
dest=${DESTDIR:-}
bindir=$prefix/bin
units=$dest$prefix/lib/systemd/system
sysusers=$dest$prefix/lib/sysusers.d
completions=$dest$prefix/share/bash-completion/completions

programs=(lxd lxd-shim lxc)
services=(lxd.service lxd.socket lxd-containers.service)

# A package's own scripts do what concerns the running system when DESTDIR is set.
live() { [ -z "$dest" ] && [ -d /run/systemd/system ]; }

if [ "${1:-}" = --remove ]; then
	if live && [ -e "$units/lxd.service" ] && systemctl --quiet is-active "${services[@]}"; then
		echo "uninstall: it runs; stop it first:  systemctl disable --now ${services[*]}" >&2
		exit 1
	fi
	rm -f "${programs[@]/#/$dest$bindir/}" "${services[@]/#/$units/}" "$sysusers/lxd.conf" "$completions/lxc"
	if live; then systemctl daemon-reload; fi
	echo "uninstall: what the daemon keeps in /var/lib/lxd and /var/log/lxd is left as it is"
	exit
fi

install -d "$dest$bindir"
for b in "${programs[@]}"; do
	install -m 755 "bin/$b" "$dest$bindir/$b"
done

install -d "$units" "$sysusers"
for u in "${services[@]}"; do
	sed "s|@bindir@|$bindir|g" "lxd/packaging/$u" >"$units/$u"
	chmod 644 "$units/$u"
done
install -m 644 lxd/packaging/sysusers.conf "$sysusers/lxd.conf"

install -d "$completions"
bin/lxc completion bash >"$completions/lxc.new"
mv "$completions/lxc.new" "$completions/lxc"

[ -z "$dest" ] || exit 0
if ! getent group lxd >/dev/null; then
	groupadd --system lxd
	echo "install: made the group 'lxd'; its members may use the API, which is as much as being root:"
	echo "    usermod -aG lxd USER"
fi
if live; then
	systemctl daemon-reload
	echo "install: start it with:  systemctl enable --now lxd.socket lxd-containers.service"
else
	echo "install: systemd does not run here; start it with:  $bindir/lxd --group lxd"
fi
