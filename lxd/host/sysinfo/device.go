package sysinfo

import (
	"path/filepath"
	"strconv"
	"strings"

	"sett/shared/api"
)

// device is what devices of all kinds have in their folder.
type device struct {
	driver, version, pci, usb                string
	vendor, product, vendorName, productName string
	node                                     uint64
}

func (h Host) device(dir string, names ids) device {
	d := device{vendor: hex(dir + "/vendor"), product: hex(dir + "/device"), node: node(dir + "/numa_node")}
	d.driver, d.version = h.driver(dir)
	d.vendorName, d.productName = names.device(d.vendor, d.product)
	d.pci, d.usb = h.bus(dir)
	return d
}

// bus is the address on the bus of a device. Disks behind an adapter have none: it is
// the adapter's. Virtio lies right below its PCI device.
func (h Host) bus(dir string) (pci, usb string) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", ""
	}
	for p, first := real, true; len(p) > len(h.sys()); p, first = filepath.Dir(p), false {
		switch linkName(p + "/subsystem") {
		case "pci":
			if first || linkName(real+"/subsystem") == "virtio" {
				return filepath.Base(p), ""
			}
			return "", ""
		case "usb":
			if bus := text(p + "/busnum"); bus != "" {
				return "", bus + ":" + text(p+"/devnum")
			}
		}
	}
	return "", ""
}

func (h Host) pci(list ids) []api.ResourcesPCIDevice {
	out := []api.ResourcesPCIDevice{}
	base := h.sys("bus/pci/devices")
	for _, addr := range names(base) {
		dir := filepath.Join(base, addr)
		d := h.device(dir, list)
		p := api.ResourcesPCIDevice{
			Driver: d.driver, DriverVersion: d.version, NUMANode: d.node, PCIAddress: addr,
			Vendor: d.vendorName, VendorID: d.vendor, Product: d.productName, ProductID: d.product, VPD: vpd(read(dir+"/vpd", mostText)),
		}
		p.IOMMUGroup, _ = strconv.ParseUint(linkName(dir+"/iommu_group"), 10, 64)
		out = append(out, p)
	}
	return out
}

// vpd reads the vital product data of a card (PCI 2.2, appendix I): items of a tag, a
// length and as many bytes. The card wrote it, so no length is believed.
func vpd(b []byte) api.ResourcesPCIVPD {
	var out api.ResourcesPCIVPD
	for len(b) > 0 {
		tag, n := b[0], 0
		if tag&0x80 == 0 { // small: the length is in the tag
			tag, n, b = tag>>3, int(tag&7), b[1:]
		} else if len(b) < 3 {
			return out
		} else {
			tag, n, b = tag&0x7f, int(b[1])|int(b[2])<<8, b[3:]
		}
		if n > len(b) {
			return out
		}
		item := b[:n]
		b = b[n:]
		switch tag {
		case 0x02:
			out.ProductName = printable(item)
		case 0x0f: // the end
			return out
		case 0x10:
			for len(item) >= 3 && int(item[2]) <= len(item)-3 {
				if out.Entries == nil {
					out.Entries = map[string]string{}
				}
				// The checksum, and the room that it sums up, are bytes.
				if k := printable(item[:2]); k != "RV" {
					out.Entries[k] = printable(item[3 : 3+int(item[2])])
				}
				item = item[3+int(item[2]):]
			}
		}
	}
	return out
}

func printable(b []byte) string {
	return strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(string(b), ""), "\x00", ""))
}

func (h Host) usb(list ids) []api.ResourcesUSBDevice {
	out := []api.ResourcesUSBDevice{}
	base := h.sys("bus/usb/devices")
	all := names(base)
	for _, name := range all {
		dir := filepath.Join(base, name)
		// Interfaces ("1-1:1.0") come with their device, hubs are not of interest.
		if strings.Contains(name, ":") || text(dir+"/bDeviceClass") == "09" {
			continue
		}
		o := api.ResourcesUSBDevice{
			BusAddress: number(dir + "/busnum"), DeviceAddress: number(dir + "/devnum"),
			VendorID: text(dir + "/idVendor"), ProductID: text(dir + "/idProduct"), Interfaces: []api.ResourcesUSBDeviceInterface{},
		}
		o.Vendor, o.Product = list.device(o.VendorID, o.ProductID)
		if p := text(dir + "/product"); p != "" {
			o.Product = p
		}
		// A number that JSON cannot carry, such as NaN, is no speed.
		if v, err := strconv.ParseFloat(text(dir+"/speed"), 64); err == nil && v > 0 && v < 1e12 {
			o.Speed = v
		}
		for _, i := range all {
			if !strings.HasPrefix(i, name+":") {
				continue
			}
			p := filepath.Join(base, i)
			f := api.ResourcesUSBDeviceInterface{
				ClassID: hexNumber(p + "/bInterfaceClass"), SubClassID: hexNumber(p + "/bInterfaceSubClass"), Number: hexNumber(p + "/bInterfaceNumber"),
			}
			f.Driver, f.DriverVersion = h.driver(p)
			f.Class, f.SubClass = list.class(text(p+"/bInterfaceClass"), text(p+"/bInterfaceSubClass"))
			o.Interfaces = append(o.Interfaces, f)
		}
		out = append(out, o)
	}
	return out
}
