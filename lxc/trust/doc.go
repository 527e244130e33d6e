// Package trust is "lxc config trust": the clients that a server trusts, and the
// tokens with which new ones trust themselves.
package trust
