// Package settings is "lxc config": configuration and devices of instances, and
// the configuration of servers.
package settings
