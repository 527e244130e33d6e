// Package remote is "lxc remote": the servers that this client knows. Adding one is
// where client and server learn to trust each other.
package remote
