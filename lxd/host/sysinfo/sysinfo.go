package sysinfo

import (
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"sett/shared/api"
)

// Host is where to look. The zero value is the machine itself; tests look elsewhere.
type Host struct {
	// Root is put in front of /sys, /proc, /dev, /run and /usr.
	Root string
	// Link tells what the driver of a network interface says, which is in no file.
	// Without it these fields stay empty.
	Link func(name string) (Link, bool)
}

// Link is what the driver of a network interface tells.
type Link struct {
	Address                   string // burnt in; "" if unknown
	Firmware                  string
	Modes, Ports              []string
	Port, Transceiver, Duplex string
	AutoNegotiation, Detected bool
	SpeedMbit                 uint64
}

func (h Host) path(parts ...string) string {
	return filepath.Join(append([]string{"/", h.Root}, parts...)...)
}

func (h Host) sys(parts ...string) string { return h.path(append([]string{"sys"}, parts...)...) }

func (h Host) proc(name string) string { return h.path("proc", name) }

// Read describes everything. machine is the architecture's name.
func (h Host) Read(machine string) (api.Resources, error) {
	var r api.Resources
	var err error
	if r.CPU, err = h.cpu(machine); err != nil {
		return r, err
	}
	if r.Memory, err = h.memory(); err != nil {
		return r, err
	}
	ids := h.readIDs("pci.ids")
	r.PCI.Devices = h.pci(ids)
	r.PCI.Total = uint64(len(r.PCI.Devices))
	r.GPU = h.gpu(ids)
	r.Network = h.network(ids)
	r.Storage = h.storage()
	r.USB.Devices = h.usb(h.readIDs("usb.ids"))
	r.USB.Total = uint64(len(r.USB.Devices))
	r.System = h.system()
	return r, nil
}

// A file of /sys is a page or less; nothing that a driver writes there may eat the memory.
const mostText, mostFile = 64 << 10, 16 << 20

func read(path string, most int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	// Half a file is of use where the rest cannot be read.
	b, _ := io.ReadAll(io.LimitReader(f, most))
	return b
}

// text is the content of a small file without the space around it; "" if it is not there.
// Devices name themselves, so the bytes need not be text: JSON takes UTF-8 only.
func text(path string) string {
	return strings.TrimSpace(strings.ToValidUTF8(string(read(path, mostText)), ""))
}

func number(path string) uint64 {
	n, _ := strconv.ParseUint(text(path), 0, 64)
	return n
}

// node is a NUMA node; the kernel says -1 where there are none.
func node(path string) uint64 {
	n, err := strconv.ParseInt(text(path), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return uint64(n)
}

func names(dir string) []string {
	es, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	out := make([]string, len(es))
	for i, e := range es {
		out[i] = e.Name()
	}
	return out
}

// numbered lists the entries "prefixN" of a folder by N.
func numbered(dir, prefix string) []uint64 {
	var out []uint64
	for _, n := range names(dir) {
		if rest, ok := strings.CutPrefix(n, prefix); ok {
			if i, err := strconv.ParseUint(rest, 10, 32); err == nil {
				out = append(out, i)
			}
		}
	}
	sort.Slice(out, func(a, b int) bool { return out[a] < out[b] })
	return out
}

// linkName is the last part of where a link leads.
func linkName(path string) string {
	l, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return filepath.Base(l)
}

// hex is an id such as 0x8086 without its mark.
func hex(path string) string { return strings.TrimPrefix(text(path), "0x") }

// driver is the name and the version of what drives a device. Drivers that have no
// version of their own carry the kernel's.
func (h Host) driver(dir string) (string, string) {
	name := linkName(dir + "/driver")
	if name == "" {
		return "", ""
	}
	if v := text(dir + "/driver/module/version"); v != "" {
		return name, v
	}
	return name, text(h.proc("sys/kernel/osrelease"))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
