// Package resources describes the machine's hardware as the kernel shows it in /sys
// and /proc. It runs no program and opens no device; what the kernel does not tell
// stays empty.
package resources

import (
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"sett/shared/api"
)

// Host is where to look. The zero value is the machine itself; tests look elsewhere.
type Host struct {
	Sys, Proc string
}

func (h Host) sys(parts ...string) string {
	if h.Sys == "" {
		h.Sys = "/sys"
	}
	return filepath.Join(append([]string{h.Sys}, parts...)...)
}

func (h Host) proc(name string) string {
	if h.Proc == "" {
		h.Proc = "/proc"
	}
	return filepath.Join(h.Proc, name)
}

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
	r.PCI.Devices = h.pci()
	r.PCI.Total = uint64(len(r.PCI.Devices))
	r.Network.Cards = h.network()
	r.Network.Total = uint64(len(r.Network.Cards))
	r.Storage.Disks = h.disks()
	r.Storage.Total = uint64(len(r.Storage.Disks))
	r.USB.Devices = h.usb()
	r.USB.Total = uint64(len(r.USB.Devices))
	r.GPU.Cards = h.gpu()
	r.GPU.Total = uint64(len(r.GPU.Cards))
	r.System = h.system()
	return r, nil
}

// text is the content of a small file without the space around it; "" if it is not there.
func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
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

// release is what the kernel gives as the version of drivers that have none.
func (h Host) release(driver string) string {
	if driver == "" {
		return ""
	}
	if v := text(h.sys("module", driver, "version")); v != "" {
		return v
	}
	return text(h.proc("sys/kernel/osrelease"))
}
