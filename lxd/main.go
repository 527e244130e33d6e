// Command lxd is the daemon and its administration verbs.
package main

import (
	"os"

	"sett/lxd/cmd"
	"sett/lxd/host/render"
	unpack "sett/lxd/host/unpack/child"
	"sett/lxd/shim/child"
)

func main() {
	// What the daemon starts again comes first: it must not do more than it has to.
	if child.Main(os.Args) {
		return
	}
	if len(os.Args) > 1 && os.Args[1] == unpack.Verb {
		os.Exit(unpack.Main(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == render.Verb {
		os.Exit(render.Main())
	}
	os.Exit(cmd.Main(os.Args[1:]))
}
