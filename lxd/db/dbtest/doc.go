// Package dbtest gives tests a database: Open one on plain SQLite with the fresh
// schema for slices, Dqlite one on a real node for the few tests that need it.
package dbtest
