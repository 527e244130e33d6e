// Package cluster is "lxc cluster".
package cluster
