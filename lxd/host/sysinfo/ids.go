package sysinfo

import (
	"strconv"
	"strings"
)

// ids are names by vendor "8086", product "8086:1234", class "C 08" and subclass "C 08:06".
type ids map[string]string

// readIDs reads pci.ids or usb.ids, which the distribution brings or not.
func (h Host) readIDs(name string) ids {
	out := ids{}
	for _, dir := range []string{"usr/share/hwdata", "usr/share/misc"} {
		top := ""
		for l := range strings.Lines(string(read(h.path(dir, name), mostFile))) {
			l = strings.TrimRight(strings.ToValidUTF8(l, ""), "\r\n")
			deep := len(l) - len(strings.TrimLeft(l, "\t"))
			key, text, ok := strings.Cut(l[deep:], "  ")
			switch {
			case deep > 1 || strings.HasPrefix(l, "#"):
			case !ok:
				top = ""
			case deep == 0:
				top, out[key] = key, text
			case top != "":
				out[top+":"+key] = text
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return out
}

// device names a vendor and its product.
func (i ids) device(vendor, product string) (string, string) {
	if vendor == "" {
		return "", ""
	}
	return i[vendor], i[vendor+":"+product]
}

// class names an interface of USB.
func (i ids) class(class, sub string) (string, string) { return i["C "+class], i["C "+class+":"+sub] }

func hexNumber(path string) uint64 {
	n, _ := strconv.ParseUint(text(path), 16, 64)
	return n
}
