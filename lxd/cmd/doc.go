// Package cmd is the command line of the lxd binary: the daemon in the foreground,
// and the verbs with which administrators look after it, a file each. Verbs talk to
// a running daemon over its socket; none opens its databases.
package cmd
