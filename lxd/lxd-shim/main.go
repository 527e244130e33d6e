// Command lxd-shim is what the daemon starts in its place where a fork of the
// daemon would be too large or have too many threads: see package child.
package main

import (
	"os"

	unpack "sett/lxd/host/unpack/child"
	"sett/lxd/shim/child"
	"sett/lxd/shim/wire"
)

func main() {
	if len(os.Args) > 1 && os.Args[0] != wire.Argv0 && os.Args[1] == unpack.Verb {
		os.Exit(unpack.Main(os.Args[2:]))
	}
	if !child.Main(os.Args) {
		os.Stderr.WriteString("lxd-shim is run by the daemon\n")
		os.Exit(125)
	}
}
