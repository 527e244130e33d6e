// Package unpack takes images and backups apart, with the host's tar and unsquashfs in a
// jail.
//
// What strangers put into an archive decides what those programs do, and they run
// as root, because the ids, device nodes and capabilities in an image are to be kept.
// So they run where nothing is in reach: their root is an empty tmpfs that shows the
// host's programs read-only and the folders that they may fill, they have no network,
// see no other process, and keep only the capabilities that making files needs. An
// archive may have absolute names, ".." or links to write through: all that it can
// hit is itself.
//
//	daemon                        child (PID 1 of its own namespaces)       tar
//	open archive and target
//	start the child          -->  mount the jail, pivot into it
//	                              drop capabilities, set limits
//	                              start tar                            -->  unpack
//	watch for a full disk         wait
//	collect what it said     <--  exit
//
// The child is this program or its shim, started again: its main function hands over
// to Main of package child when it is asked for Verb.
package unpack
