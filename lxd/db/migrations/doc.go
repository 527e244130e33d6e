// Package migrations holds the schema of the database as a list of steps.
//
// The steps are the files of a folder, NNNN_name.sql, numbered from 1 without gaps.
// They are append-only: a step that was released is never changed, because
// databases out there have taken it already. Each runs once, in a transaction of
// its own, and leaves a row in the table schema (version, name, applied_at,
// applied_by). A database that has a newer version than we know is refused and left
// as it is.
//
// Members of version N and N-1 run side by side while a cluster is upgraded, so
// changes are expand, then contract:
//
//	expand    add tables, add columns that are NULL or have a DEFAULT, add indexes;
//	          code of N writes old and new, code of N-1 doesn't notice
//	contract  drop or rename, tighten a constraint: at the earliest one release
//	          after no running version reads or writes the old form
//
// A step is plain SQL. What libdqlite cannot take stays out (RETURNING, ATTACH,
// setting PRAGMAs); facts about the columns stand beside them.
package migrations
