// Package config is what the command line remembers: remotes, aliases, the
// client's certificate and the certificates of servers. It lives in a folder that
// LXD's client understands too ($LXD_CONF or ~/.config/lxc).
package config
