// Package backup knows what an exported instance looks like: the layout of LXD 5.0's
// archives, and the file backup.yaml that lies beside the root file system of every
// instance.
//
//	backup/index.yaml               what is in the archive
//	backup/container/               backup.yaml, metadata.yaml, templates, rootfs
//	backup/snapshots/NAME/          the same of each snapshot
//	backup/optimized_header.yaml    instead of these folders: streams of the driver,
//	backup/container.bin            and what their subvolumes are called
//	backup/snapshots/NAME.bin
//
// What it reads was written by strangers: sizes are limited, names are for the caller
// to check.
package backup
