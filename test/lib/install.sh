#!/bin/bash
# install.sh: put the binaries of bin/, the systemd units and the shell completion below
# $DESTDIR$PREFIX. Run by 'make install'.
set -euo pipefail
cd "$(dirname "$0")/../.."

prefix=${PREFIX:-/usr/local}
dest=${DESTDIR:-}
bindir=$prefix/bin

install -d "$dest$bindir"
for b in lxd lxd-shim lxc; do
	[ ! -e "bin/$b" ] || install -m 755 "bin/$b" "$dest$bindir/$b"
done

units=$dest$prefix/lib/systemd/system
install -d "$units" "$dest$prefix/lib/sysusers.d"
for u in lxd.service lxd.socket lxd-containers.service; do
	sed "s|@bindir@|$bindir|g" "lxd/packaging/$u" >"$units/$u"
	chmod 644 "$units/$u"
done
install -m 644 lxd/packaging/sysusers.conf "$dest$prefix/lib/sysusers.d/lxd.conf"

completions=$dest$prefix/share/bash-completion/completions
install -d "$completions"
if bin/lxc completion bash >"$completions/lxc.new"; then
	mv "$completions/lxc.new" "$completions/lxc"
else
	rm -f "$completions/lxc.new"
	echo "install: no shell completion: 'lxc completion bash' failed" >&2
fi

# A package's own scripts do the rest when DESTDIR is set.
[ -z "$dest" ] || exit 0
if ! getent group lxd >/dev/null; then
	groupadd --system lxd
	echo "install: made the group 'lxd'; its members may use the API, which is as much as being root:"
	echo "    usermod -aG lxd USER"
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	echo "install: start it with:  systemctl enable --now lxd.socket lxd-containers.service"
else
	echo "install: systemd does not run here; start it with:  $bindir/lxd --group lxd"
fi
