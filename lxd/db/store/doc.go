// Package store opens the databases of a daemon in the one order that is safe, and
// closes them again:
//
//	inspect    whose directory is it? nothing is touched before this is known
//	lock       one daemon per directory
//	local      patch.local.sql (after a copy to local.db.bak), then its schema
//	backup     database/global to database/global.bak, when patch.global.sql is there
//	node       the raft engine starts
//	patch      patch.global.sql, in a transaction
//	schema     the steps that are missing
//
// A step that fails stops the daemon, and leaves the databases as they were.
package store
