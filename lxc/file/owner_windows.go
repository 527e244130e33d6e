package file

import "io/fs"

// ownerMode is what a local file is, as the server takes it. There are no such owners
// here.
func ownerMode(fi fs.FileInfo) (mode int, uid, gid int64) { return permissions(fi), -1, -1 }
