// Package op runs what takes longer than a request: operations that clients can
// follow, wait for and cancel.
//
// A Manager is a value that the composition root makes. An operation runs with a
// context that ends when it is cancelled or the daemon goes down; finished ones
// stay visible for a short while. Nothing here touches the database: operations
// are many and short-lived, and raft is not the place for them.
package op
