package child

import (
	"os"

	"golang.org/x/sys/unix"

	"sett/lxd/host/guestfs"
	"sett/lxd/shim/wire"
)

// files serves the files of the root in which the constructor has left us, until the
// daemon closes the socket.
func files(sock *os.File) {
	r, err := guestfs.Here(os.NewFile(wire.FDSelf, "self"))
	if err != nil {
		os.Exit(1)
	}
	r.Join = func() { _, _ = unix.Write(wire.FDGroup, []byte("0")) } // /dev/null where there is no such list
	fd := int(sock.Fd())
	if err := guestfs.Serve(&guestfs.Socket{File: sock}, r, func() { _ = unix.Shutdown(fd, unix.SHUT_RD) }); err != nil {
		os.Exit(1)
	}
}
