// Package instance holds the commands for instances, which stand at the top of
// the tree: launch, init, list, info, start, stop, restart, pause, rename, delete
// and exec.
package instance
