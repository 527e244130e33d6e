// Package client talks to servers of the LXD 5.0 API.
//
// ConnectLXDUnix and ConnectLXD return an InstanceServer, whose methods carry
// LXD's names. Work in the background comes back as an Operation to wait for.
// InstanceServer is composed of small interfaces, one per resource: take the
// smallest that you use. UseProject, UseTarget and WithContext return another
// view of the same connection. Errors that a server answered are
// api.StatusError. The package knows nothing of the daemon.
package client
