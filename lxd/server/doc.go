// Package server is about the daemon as a whole: /1.0 with its configuration and
// environment, operations, the events websocket, and the endpoints that the
// administration verbs of lxd use. Tables owned: config.
package server
