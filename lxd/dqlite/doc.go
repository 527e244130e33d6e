// Package dqlite runs this member's node of the database that all members share.
//
// It is the only package that binds go-dqlite. A Node owns a folder, the raft engine
// in it and a pool for package database/sql; it knows no schema. The engine listens
// on an abstract socket, on which it takes connections of this process only. Other
// members come in through Serve, on connections that the daemon has accepted and
// authenticated, and are reached through Options.Dial; a node that stands alone has
// neither.
//
// The node is put together here and not by go-dqlite's own app package: that one
// leaks its sockets into every program the daemon starts, registers drivers for
// ever, and ends the process when a peer hangs up at the wrong moment.
package dqlite
