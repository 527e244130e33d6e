package sysinfo

import (
	"path/filepath"
	"strconv"
	"strings"

	"sett/shared/api"
)

func (h Host) storage() api.ResourcesStorage {
	out := api.ResourcesStorage{Disks: []api.ResourcesStorageDisk{}}
	base := h.sys("class/block")
	ids, paths := h.links("by-id"), h.links("by-path")
	for _, name := range names(base) {
		dir := filepath.Join(base, name)
		// Partitions come with their disk; loops and the like have no device behind them.
		if !exists(dir+"/device") || exists(dir+"/partition") {
			continue
		}
		o := h.disk(dir, name)
		o.DeviceID, o.DevicePath = ids[name], paths[name]
		out.Disks = append(out.Disks, o)
		out.Total += 1 + uint64(len(o.Partitions))
	}
	return out
}

func (h Host) disk(dir, name string) api.ResourcesStorageDisk {
	dev := dir + "/device"
	o := api.ResourcesStorageDisk{
		ID: name, Device: text(dir + "/dev"), Model: text(dev + "/model"), Type: linkName(dev + "/subsystem"),
		ReadOnly: number(dir+"/ro") == 1, Size: sectors(dir), Removable: number(dir+"/removable") == 1,
		WWN: text(dir + "/wwid"), NUMANode: node(dev + "/numa_node"), BlockSize: number(dir + "/queue/physical_block_size"),
		FirmwareVersion: text(dev + "/firmware_rev"), RPM: number(dir + "/queue/rotational"), Partitions: []api.ResourcesStorageDiskPartition{},
	}
	o.PCIAddress, o.USBAddress = h.bus(dev)
	udev := h.udev(o.Device)
	switch {
	case o.USBAddress != "":
		o.Type = "usb"
	case strings.HasPrefix(name, "sr"):
		o.Type = "cdrom"
	case udev["ID_ATA_SATA"] == "1":
		o.Type = "sata"
	}
	o.Serial = udev["ID_SERIAL_SHORT"]
	// udev asked the disk itself, which knows its whole name; SCSI cuts it at 16 letters.
	if m := udev["ID_MODEL_ENC"]; m != "" {
		o.Model = strings.TrimSpace(unescape(m))
	} else if m := udev["ID_MODEL"]; m != "" {
		o.Model = m
	}
	if o.FirmwareVersion == "" {
		o.FirmwareVersion = udev["ID_REVISION"]
	}
	if n, err := strconv.ParseUint(udev["ID_ATA_ROTATION_RATE_RPM"], 10, 32); err == nil {
		o.RPM = n
	}
	for _, part := range names(dir) {
		p := filepath.Join(dir, part)
		if !strings.HasPrefix(part, name) || !exists(p+"/partition") {
			continue
		}
		o.Partitions = append(o.Partitions, api.ResourcesStorageDiskPartition{
			ID: part, Device: text(p + "/dev"), ReadOnly: number(p+"/ro") == 1, Size: sectors(p), Partition: number(p + "/partition"),
		})
	}
	return o
}

// sectors is a size in bytes; the kernel counts in 512 whatever the disk does.
func sectors(dir string) uint64 { return number(dir+"/size") * 512 }

// links maps device names to the last of the links to them in a folder of /dev/disk.
func (h Host) links(kind string) map[string]string {
	out := map[string]string{}
	dir := h.path("dev/disk", kind)
	for _, n := range names(dir) {
		if to := linkName(filepath.Join(dir, n)); to != "" {
			out[to] = n
		}
	}
	return out
}

// udev is what udev remembers of a disk "8:0".
func (h Host) udev(device string) map[string]string {
	out := map[string]string{}
	if device == "" || strings.Contains(device, "/") {
		return out
	}
	for l := range strings.Lines(text(h.path("run/udev/data", "b"+device))) {
		if kv, ok := strings.CutPrefix(l, "E:"); ok {
			k, v, _ := strings.Cut(strings.TrimSpace(kv), "=")
			out[k] = v
		}
	}
	return out
}

// unescape undoes udev's \x20.
func unescape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if len(s) >= 4 && s[:2] == `\x` {
			if n, err := strconv.ParseUint(s[2:4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return strings.ToValidUTF8(b.String(), "")
}
