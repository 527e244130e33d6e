// Package devlxd answers guests: what they may know of themselves, over a socket that
// each sees as /dev/lxd/sock.
//
// Rules: who asks is told by the kernel (package peer) when the connection is made, and
// only root of the guest gets answers. Answers are bare JSON or plain text, as tools in
// images expect them, and not the envelope of the API. A guest is a stranger: what it
// can hold of the daemon is bounded.
package devlxd
