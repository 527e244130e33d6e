package resources

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sett/shared/api"
)

// device is what devices of all kinds have in their folder.
type device struct {
	driver, version, pci, usb, vendor, product string
	node                                       uint64
}

func (h Host) device(dir string) device {
	d := device{driver: linkName(dir + "/driver"), vendor: hex(dir + "/vendor"), product: hex(dir + "/device"), node: node(dir + "/numa_node")}
	d.version = h.release(d.driver)
	// Up the tree to the bus on which it sits: virtio and partitions lie below.
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return d
	}
	for p := real; len(p) > len(h.sys()); p = filepath.Dir(p) {
		switch linkName(p + "/subsystem") {
		case "usb":
			if d.usb == "" && text(p+"/busnum") != "" {
				d.usb = text(p+"/busnum") + ":" + text(p+"/devnum")
			}
		case "pci":
			d.pci = filepath.Base(p)
			if n := node(p + "/numa_node"); n != 0 {
				d.node = n
			}
			return d
		}
	}
	return d
}

func (h Host) pci() []api.ResourcesPCIDevice {
	out := []api.ResourcesPCIDevice{}
	base := h.sys("bus/pci/devices")
	for _, addr := range names(base) {
		dir := filepath.Join(base, addr)
		d := h.device(dir)
		p := api.ResourcesPCIDevice{Driver: d.driver, DriverVersion: d.version, NUMANode: d.node, PCIAddress: addr, VendorID: d.vendor, ProductID: d.product}
		p.IOMMUGroup, _ = strconv.ParseUint(linkName(dir+"/iommu_group"), 10, 64)
		out = append(out, p)
	}
	return out
}

// network lists the cards that are hardware: those with a device behind them.
func (h Host) network() []api.ResourcesNetworkCard {
	out := []api.ResourcesNetworkCard{}
	base := h.sys("class/net")
	at := map[string]int{} // of cards with several ports
	for _, name := range names(base) {
		dir := filepath.Join(base, name)
		real, err := filepath.EvalSymlinks(dir + "/device")
		if err != nil {
			continue
		}
		port := api.ResourcesNetworkCardPort{ID: name, Address: text(dir + "/address"), Port: number(dir + "/dev_port"), Protocol: "unknown"}
		switch text(dir + "/type") {
		case "1":
			port.Protocol = "ethernet"
		case "32":
			port.Protocol = "infiniband"
		}
		port.LinkDetected = text(dir+"/carrier") == "1"
		if port.LinkDetected {
			if n, err := strconv.ParseInt(text(dir+"/speed"), 10, 64); err == nil && n > 0 {
				port.LinkSpeed = uint64(n)
			}
			if v := text(dir + "/duplex"); v != "unknown" {
				port.LinkDuplex = v
			}
		}
		if i, ok := at[real]; ok {
			out[i].Ports = append(out[i].Ports, port)
			continue
		}
		at[real] = len(out)
		d := h.device(dir + "/device")
		c := api.ResourcesNetworkCard{Driver: d.driver, DriverVersion: d.version, NUMANode: d.node, PCIAddress: d.pci, USBAddress: d.usb,
			VendorID: d.vendor, ProductID: d.product, Ports: []api.ResourcesNetworkCardPort{port}}
		if n := number(dir + "/device/sriov_totalvfs"); n > 0 {
			c.SRIOV = &api.ResourcesNetworkCardSRIOV{MaximumVFs: n, CurrentVFs: number(dir + "/device/sriov_numvfs"), VFs: []api.ResourcesNetworkCard{}}
		}
		out = append(out, c)
	}
	return out
}

func (h Host) disks() []api.ResourcesStorageDisk {
	out := []api.ResourcesStorageDisk{}
	base := h.sys("class/block")
	for _, name := range names(base) {
		dir := filepath.Join(base, name)
		// Partitions come with their disk; loops and the like have no device behind them.
		if _, err := os.Stat(dir + "/device"); err != nil || text(dir+"/partition") != "" {
			continue
		}
		d := h.device(dir + "/device")
		o := api.ResourcesStorageDisk{
			ID: name, Device: text(dir + "/dev"), Model: text(dir + "/device/model"), ReadOnly: number(dir+"/ro") == 1,
			Size: number(dir+"/size") * 512, Removable: number(dir+"/removable") == 1, WWN: text(dir + "/wwid"), NUMANode: d.node,
			RPM: number(dir + "/queue/rotational"), Serial: text(dir + "/serial"), FirmwareVersion: text(dir + "/device/firmware_rev"),
			PCIAddress: d.pci, USBAddress: d.usb, Type: linkName(dir + "/device/subsystem"), Partitions: []api.ResourcesStorageDiskPartition{},
		}
		if d.usb != "" {
			o.Type = "usb"
		}
		for _, part := range names(dir) {
			p := filepath.Join(dir, part)
			if !strings.HasPrefix(part, name) || text(p+"/partition") == "" {
				continue
			}
			o.Partitions = append(o.Partitions, api.ResourcesStorageDiskPartition{ID: part, Device: text(p + "/dev"),
				ReadOnly: number(p+"/ro") == 1, Size: number(p+"/size") * 512, Partition: number(p + "/partition")})
		}
		out = append(out, o)
	}
	return out
}

func (h Host) usb() []api.ResourcesUSBDevice {
	out := []api.ResourcesUSBDevice{}
	base := h.sys("bus/usb/devices")
	for _, name := range names(base) {
		dir := filepath.Join(base, name)
		// Interfaces ("1-1:1.0") come with their device, hubs are not of interest.
		if strings.Contains(name, ":") || text(dir+"/bDeviceClass") == "09" {
			continue
		}
		o := api.ResourcesUSBDevice{BusAddress: number(dir + "/busnum"), DeviceAddress: number(dir + "/devnum"), Vendor: text(dir + "/manufacturer"),
			VendorID: text(dir + "/idVendor"), Product: text(dir + "/product"), ProductID: text(dir + "/idProduct"), Interfaces: []api.ResourcesUSBDeviceInterface{}}
		o.Speed, _ = strconv.ParseFloat(text(dir+"/speed"), 64)
		for _, i := range names(base) {
			if !strings.HasPrefix(i, name+":") {
				continue
			}
			p := filepath.Join(base, i)
			drv := linkName(p + "/driver")
			o.Interfaces = append(o.Interfaces, api.ResourcesUSBDeviceInterface{Driver: drv, DriverVersion: h.release(drv),
				ClassID: hexNumber(p + "/bInterfaceClass"), SubClassID: hexNumber(p + "/bInterfaceSubClass"), Number: hexNumber(p + "/bInterfaceNumber")})
		}
		out = append(out, o)
	}
	return out
}

func hexNumber(path string) uint64 {
	n, _ := strconv.ParseUint(text(path), 16, 64)
	return n
}

func (h Host) gpu() []api.ResourcesGPUCard {
	out := []api.ResourcesGPUCard{}
	base := h.sys("class/drm")
	for _, n := range numbered(base, "card") {
		name := "card" + strconv.FormatUint(n, 10)
		dir := filepath.Join(base, name)
		d := h.device(dir + "/device")
		c := api.ResourcesGPUCard{Driver: d.driver, DriverVersion: d.version, NUMANode: d.node, PCIAddress: d.pci, USBAddress: d.usb,
			VendorID: d.vendor, ProductID: d.product, DRM: &api.ResourcesGPUCardDRM{ID: n, CardName: name, CardDevice: text(dir + "/dev")}}
		for _, r := range names(dir + "/device/drm") {
			if strings.HasPrefix(r, "renderD") {
				c.DRM.RenderName, c.DRM.RenderDevice = r, text(filepath.Join(base, r, "dev"))
			}
		}
		out = append(out, c)
	}
	return out
}

func (h Host) system() api.ResourcesSystem {
	dmi := h.sys("class/dmi/id")
	o := api.ResourcesSystem{Type: "physical"}
	if _, err := os.Stat(dmi); err != nil {
		o.Type = "unknown"
		return o
	}
	get := func(name string) string { return text(filepath.Join(dmi, name)) }
	o.UUID, o.Vendor, o.Product, o.Family = get("product_uuid"), get("sys_vendor"), get("product_name"), get("product_family")
	o.Version, o.Sku, o.Serial = get("product_version"), get("product_sku"), get("product_serial")
	b, err := os.ReadFile(h.proc("cpuinfo"))
	if err == nil && strings.Contains(string(b), " hypervisor") {
		o.Type = "virtual-machine"
	}
	o.Firmware = &api.ResourcesSystemFirmware{Vendor: get("bios_vendor"), Version: get("bios_version"), Date: get("bios_date")}
	o.Chassis = &api.ResourcesSystemChassis{Vendor: get("chassis_vendor"), Type: get("chassis_type"), Serial: get("chassis_serial"), Version: get("chassis_version")}
	o.Motherboard = &api.ResourcesSystemMotherboard{Vendor: get("board_vendor"), Product: get("board_name"), Serial: get("board_serial"), Version: get("board_version")}
	return o
}
