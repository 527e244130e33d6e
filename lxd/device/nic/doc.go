// Package nic plugs network interfaces into instances: one end of a veth pair
// goes into the container, the other stays on the host, as a port of a bridge
// (nictype bridged) or by itself (p2p).
//
// All that a nic holds on the host hangs on the name of the host's end, which is
// noted in a file: whoever knows that can clean up. Users find it in
// volatile.DEVICE.host_name, which they may write; so nothing is done by it.
package nic
