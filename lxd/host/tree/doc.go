// Package tree copies and removes whole trees of files that guests have written to.
//
// A guest may change its tree while we walk it, and may have filled it with anything:
// links to the host's files, folders nested without end. So every step goes by an open
// folder and one name in it, and no link is ever followed.
package tree
