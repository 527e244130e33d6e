// Command subvol tries to make a btrfs subvolume in the present folder, by each of
// the kernel's ways, and prints what came of it.
package main

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

func main() {
	dir, err := os.Open(".")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i, request := range []uintptr{0x5000940e, 0x50009418, 1<<32 | 0x5000940e, 1<<32 | 0x50009418} {
		var args [4096]byte
		at := 8 // struct btrfs_ioctl_vol_args
		if request&0xff == 0x18 {
			at = 56 // and its second version
		}
		copy(args[at:], fmt.Sprintf("made%d", i))
		_, _, e := syscall.Syscall(syscall.SYS_IOCTL, dir.Fd(), request, uintptr(unsafe.Pointer(&args)))
		fmt.Println(int(e))
	}
}
