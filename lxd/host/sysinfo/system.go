package sysinfo

import (
	"path/filepath"
	"strings"

	"sett/shared/api"
)

// chassisTypes are the names that SMBIOS gives to its numbers, from 1 on.
const chassisTypes = "Other,Unknown,Desktop,Low Profile Desktop,Pizza Box,Mini Tower,Tower,Portable,Laptop,Notebook," +
	"Hand Held,Docking Station,All in One,Sub Notebook,Space-saving,Lunch Box,Main Server Chassis,Expansion Chassis," +
	"SubChassis,Bus Expansion Chassis,Peripheral Chassis,RAID Chassis,Rack Mount Chassis,Sealed-case PC,Multi-system Chassis," +
	"Compact PCI,Advanced TCA,Blade,Blade Enclosure,Tablet,Convertible,Detachable,IoT Gateway,Embedded PC,Mini PC,Stick PC"

func chassis(n uint64) string {
	all := strings.Split(chassisTypes, ",")
	if n < 1 || n > uint64(len(all)) {
		return ""
	}
	return all[n-1]
}

// kind tells what we run on. Container managers mark theirs by files that they agree on.
func (h Host) kind() string {
	for _, mark := range []string{".dockerenv", "run/.containerenv", "run/systemd/container", "run/host/container-manager"} {
		if exists(h.path(mark)) {
			return "container"
		}
	}
	for v := range strings.SplitSeq(string(read(h.proc("1/environ"), mostText)), "\x00") {
		if strings.HasPrefix(v, "container=") && v != "container=" {
			return "container"
		}
	}
	for l := range strings.Lines(string(read(h.proc("cpuinfo"), mostFile))) {
		if k, v, _ := strings.Cut(l, ":"); strings.TrimSpace(k) == "flags" {
			for _, f := range strings.Fields(v) {
				if f == "hypervisor" {
					return "virtual-machine"
				}
			}
			break
		}
	}
	return "physical"
}

func (h Host) system() api.ResourcesSystem {
	dmi := h.sys("class/dmi/id")
	o := api.ResourcesSystem{Type: h.kind()}
	if !exists(dmi) {
		return o
	}
	get := func(name string) string { return text(filepath.Join(dmi, name)) }
	o.UUID, o.Vendor, o.Product, o.Family = get("product_uuid"), get("sys_vendor"), get("product_name"), get("product_family")
	o.Version, o.Sku, o.Serial = get("product_version"), get("product_sku"), get("product_serial")
	o.Firmware = &api.ResourcesSystemFirmware{Vendor: get("bios_vendor"), Version: get("bios_version"), Date: get("bios_date")}
	o.Chassis = &api.ResourcesSystemChassis{Vendor: get("chassis_vendor"), Type: chassis(number(dmi + "/chassis_type")), Serial: get("chassis_serial"), Version: get("chassis_version")}
	o.Motherboard = &api.ResourcesSystemMotherboard{Vendor: get("board_vendor"), Product: get("board_name"), Serial: get("board_serial"), Version: get("board_version")}
	return o
}
