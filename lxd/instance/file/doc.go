// Package file is about the files inside of instances: one by one under
// /1.0/instances/{name}/files, and by SFTP.
//
// It opens no file itself. A process that is inside the guest's root, with the guest's
// ids, does that for each request (package host/guestfs).
package file
