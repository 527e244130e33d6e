// Package pack writes trees of files that guests have written to as tar streams, and
// compresses them.
//
// A guest may change its tree while it is read, and may have filled it with anything.
// So every step goes by an open folder and one name in it, no link is followed, and
// what a name stands for is looked at first by a handle that does nothing to it
// (O_PATH): only regular files and folders are ever opened, and exactly those that
// were looked at. Paths have no limit on the way, and one in the archive.
//
// The streams are PAX: numeric owners, nanoseconds, extended attributes with
// capabilities, ACLs in both customary forms, and holes as GNU tar's format 1.0 has
// them. tar, LXD and package archive read them.
package pack
