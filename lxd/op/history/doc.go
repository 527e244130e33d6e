// Package history keeps what the operations of this member were, in the member's own
// database, where it costs the cluster nothing.
//
// It is told of the beginning and the end of each and writes behind: a beginning at once,
// so that a daemon that is killed finds what was under way when it starts again, an end
// together with others. Nobody waits for it. Sessions (commands and consoles) are too many
// for that: the last of them are kept in memory.
//
// It owns the table operations_history.
package history
