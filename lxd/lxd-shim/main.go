// Command lxd-shim is what the daemon starts in its place where a fork of the
// daemon would be too large or have too many threads: see package child.
package main

import (
	"os"

	"sett/lxd/shim/child"
)

func main() {
	if !child.Main(os.Args) {
		os.Stderr.WriteString("lxd-shim is run by the daemon\n")
		os.Exit(125)
	}
}
