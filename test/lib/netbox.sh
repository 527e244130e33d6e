#!/bin/bash
# netbox.sh: boxes of namespaces, so that one machine can play several in a network of their own.
#
#   netbox.sh hold                            be a box: print "ready", stay until standard input ends
#   netbox.sh switch BOX                      make the box a switch
#   netbox.sh plug SWITCH BOX ADDRESS/LENGTH  wire a box to a switch, as eth0
#   netbox.sh in BOX COMMAND...               run a command in a box
#
# A BOX is the process id of its 'hold'. A box has its own network and mounts, and shares the file
# system, the processes and the cgroups of the machine. It keeps its mounts when the daemon in it is
# killed and started again, as a machine would.
set -euo pipefail

hold() {
	# A /sys that shows this network, with the cgroups still in it: liblxc looks for bridges in one
	# and makes containers in the other. ('ip netns exec' would hide the cgroups.)
	exec unshare --net --mount --propagation private bash -euc '
		aside=$(mktemp -d)
		mount --rbind /sys/fs/cgroup "$aside"
		mount -t sysfs sysfs /sys
		mount --rbind "$aside" /sys/fs/cgroup
		umount -l "$aside"
		rmdir "$aside"
		ip link set lo up
		echo ready
		exec cat'
}

run_in() {
	local box=$1
	shift
	exec nsenter --target "$box" --net --mount -- "$@"
}

case ${1-} in
hold) hold ;;
switch)
	nsenter --target "$2" --net -- ip link add sw0 type bridge
	nsenter --target "$2" --net -- ip link set sw0 up
	;;
plug)
	port=p$3
	nsenter --target "$2" --net -- ip link add "$port" type veth peer name eth0 netns "$3"
	nsenter --target "$2" --net -- ip link set "$port" master sw0 up
	nsenter --target "$3" --net -- ip address add "$4" dev eth0
	nsenter --target "$3" --net -- ip link set eth0 up
	;;
in)
	shift
	run_in "$@"
	;;
*)
	sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
