// Package cli is what all commands of lxc share: the root and its flags, finding
// the server behind "remote:name", tables and other formats, asking, editing,
// progress and exit codes. Commands get an App and never touch the process's own
// streams, so that tests run them side by side. It knows no noun.
package cli
