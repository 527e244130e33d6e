package ethtool

import (
	"encoding/binary"
	"net"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"sett/lxd/host/sysinfo"
)

// Of include/uapi/linux/ethtool.h. The older call for settings is asked: all drivers
// answer it, and newer kernels translate.
const (
	getSettings = 0x1
	getLink     = 0xa
	getAddress  = 0x20
)

// ifreq is struct ifreq with a pointer, as SIOCETHTOOL takes it.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// ask sends one question; the kernel writes its answer over it.
func ask(fd int, name string, buf []byte) bool {
	var r ifreq
	copy(r.name[:unix.IFNAMSIZ-1], name)
	var pin runtime.Pinner
	pin.Pin(&buf[0])
	defer pin.Unpin()
	r.data = unsafe.Pointer(&buf[0])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
	return errno == 0
}

func question(command uint32, size int) []byte {
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, command)
	return b
}

// Read asks the driver of an interface. What it does not know stays empty.
func Read(name string) (sysinfo.Link, bool) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sysinfo.Link{}, false
	}
	defer func() { _ = unix.Close(fd) }()
	d, err := unix.IoctlGetEthtoolDrvinfo(fd, name)
	if err != nil {
		return sysinfo.Link{}, false
	}
	var l sysinfo.Link
	if l.Firmware = unix.ByteSliceToString(d.Fw_version[:]); l.Firmware == "N/A" {
		l.Firmware = ""
	}
	if b := question(getLink, 8); ask(fd, name, b) {
		l.Detected = binary.NativeEndian.Uint32(b[4:]) == 1
	}
	a := question(getAddress, 8+32)
	binary.NativeEndian.PutUint32(a[4:], 32)
	if ask(fd, name, a) {
		l.Address = address(a)
	}
	if b := question(getSettings, 44); ask(fd, name, b) {
		settings(b, &l)
	}
	return l, true
}

// address reads the burnt in address; all zero means that there is none.
func address(b []byte) string {
	n := binary.NativeEndian.Uint32(b[4:])
	if n == 0 || int(n) > len(b)-8 || strings.Trim(string(b[8:8+n]), "\x00") == "" {
		return ""
	}
	return net.HardwareAddr(b[8 : 8+n]).String()
}

var (
	modes = []string{
		"10baseT/Half", "10baseT/Full", "100baseT/Half", "100baseT/Full", "1000baseT/Half", "1000baseT/Full", "", "", "", "", "", "",
		"10000baseT/Full", "", "", "2500baseX/Full", "", "1000baseKX/Full", "10000baseKX4/Full", "10000baseKR/Full", "10000baseR_FEC",
		"20000baseMLD2/Full", "20000baseKR2/Full", "40000baseKR4/Full", "40000baseCR4/Full", "40000baseSR4/Full", "40000baseLR4/Full",
		"56000baseKR4/Full", "56000baseCR4/Full", "56000baseSR4/Full", "56000baseLR4/Full",
	}
	plugs = map[int]string{7: "twisted pair", 8: "AUI", 9: "media-independent", 10: "fibre", 11: "BNC"}
	ports = map[byte]string{0: "twisted pair", 1: "AUI", 2: "media-independent", 3: "fibre", 4: "BNC", 5: "direct attach", 0xef: "none", 0xff: "other"}
)

// settings reads struct ethtool_cmd.
func settings(b []byte, l *sysinfo.Link) {
	supported := binary.NativeEndian.Uint32(b[4:])
	for i, m := range modes {
		if m != "" && supported&(1<<i) != 0 {
			l.Modes = append(l.Modes, m)
		}
	}
	for i := range 32 {
		if p := plugs[i]; p != "" && supported&(1<<i) != 0 {
			l.Ports = append(l.Ports, p)
		}
	}
	l.Port = ports[b[15]]
	switch b[17] {
	case 0:
		l.Transceiver = "internal"
	case 1:
		l.Transceiver = "external"
	}
	l.AutoNegotiation = b[18] == 1
	if !l.Detected {
		return
	}
	speed := uint64(binary.NativeEndian.Uint16(b[12:])) | uint64(binary.NativeEndian.Uint16(b[28:]))<<16
	if speed == 0xffff || speed == 0xffffffff {
		return
	}
	l.SpeedMbit = speed
	switch b[14] {
	case 0:
		l.Duplex = "half"
	case 1:
		l.Duplex = "full"
	}
}
