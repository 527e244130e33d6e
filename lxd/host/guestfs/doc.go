// Package guestfs serves the files of a guest to the daemon, and speaks with that
// server.
//
// The server runs in a small process of its own, inside the guest's root and with the
// guest's ids, so that nothing that lies there leads to the host. It believes the tree
// nothing all the same: every look-up stays below the root (openat2), and what a name
// stands for is looked at before it is opened, because to open a FIFO blocks and to
// open a device acts. The tree may change at any moment.
//
// One connection carries one request after the other; the daemon ends a server by
// closing it.
package guestfs
