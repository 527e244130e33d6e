// Package driver is the contract between the storage slice and the drivers, and
// what drivers share: where volumes lie, names of half-made things, counting of
// mounts, and fallbacks for what a file system cannot do by itself.
//
// A Kind makes a Driver for one pool. A Driver knows nothing of databases,
// instances or images: it is told what to make and how to fill it. Everything that
// lies on disk can be found again without a database (see Layout), and everything
// half-made carries a name that Recover removes.
package driver
