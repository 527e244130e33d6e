// Package node is the database of this member alone: plain SQLite in
// database/local.db, there before the shared one runs. It holds the member's own
// configuration, the patches that were applied and the addresses of the raft nodes.
//
// It also tells whose a directory is: one that LXD wrote, or a newer version of this
// program, is refused before anything in it is touched. A damaged file is replaced by one
// with all that is needed of it, or refused too.
package node
