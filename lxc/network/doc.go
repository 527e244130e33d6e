// Package network is "lxc network".
package network
