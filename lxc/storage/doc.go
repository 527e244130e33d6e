// Package storage is "lxc storage".
package storage
