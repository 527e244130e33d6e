package sysinfo

import (
	"path/filepath"
	"strconv"
	"strings"

	"sett/shared/api"
)

// gpu lists the cards that have a driver, then those that the bus alone knows. Virtual
// functions are listed with the card that they are cut from.
func (h Host) gpu(list ids) api.ResourcesGPU {
	out := api.ResourcesGPU{Cards: []api.ResourcesGPUCard{}}
	seen, vfs := map[string]bool{}, map[string][]api.ResourcesGPUCard{}
	add := func(dir, real string, drm *api.ResourcesGPUCardDRM) {
		if real == "" || seen[real] {
			return
		}
		seen[real] = true
		out.Total++
		d := h.device(dir, list)
		c := api.ResourcesGPUCard{
			Driver: d.driver, DriverVersion: d.version, NUMANode: d.node, PCIAddress: d.pci, USBAddress: d.usb,
			Vendor: d.vendorName, VendorID: d.vendor, Product: d.productName, ProductID: d.product, DRM: drm, Mdev: mdev(dir),
		}
		if parent := linkName(dir + "/physfn"); parent != "" {
			vfs[parent] = append(vfs[parent], c)
			return
		}
		if exists(dir + "/sriov_numvfs") {
			c.SRIOV = &api.ResourcesGPUCardSRIOV{CurrentVFs: number(dir + "/sriov_numvfs"), MaximumVFs: number(dir + "/sriov_totalvfs"), VFs: []api.ResourcesGPUCard{}}
		}
		out.Cards = append(out.Cards, c)
	}
	base := h.sys("class/drm")
	for _, n := range numbered(base, "card") {
		dir := filepath.Join(base, "card"+strconv.FormatUint(n, 10))
		real, err := filepath.EvalSymlinks(dir + "/device")
		if err == nil {
			add(dir+"/device", real, drm(n, dir))
		}
	}
	base = h.sys("bus/pci/devices")
	for _, addr := range names(base) {
		dir := filepath.Join(base, addr)
		if real, err := filepath.EvalSymlinks(dir); err == nil && strings.HasPrefix(text(dir+"/class"), "0x03") {
			add(dir, real, nil)
		}
	}
	for i, c := range out.Cards {
		if c.SRIOV != nil {
			c.SRIOV.VFs = append(c.SRIOV.VFs, vfs[c.PCIAddress]...)
			out.Cards[i] = c
		}
	}
	return out
}

func drm(id uint64, dir string) *api.ResourcesGPUCardDRM {
	name := filepath.Base(dir)
	out := &api.ResourcesGPUCardDRM{ID: id, CardName: name, CardDevice: text(dir + "/dev")}
	for _, r := range names(dir + "/device/drm") {
		dev := text(filepath.Join(dir, "device/drm", r, "dev"))
		switch {
		case strings.HasPrefix(r, "renderD"):
			out.RenderName, out.RenderDevice = r, dev
		case strings.HasPrefix(r, "controlD"):
			out.ControlName, out.ControlDevice = r, dev
		}
	}
	return out
}

func mdev(dir string) map[string]api.ResourcesGPUCardMdev {
	base := dir + "/mdev_supported_types"
	var out map[string]api.ResourcesGPUCardMdev
	for _, t := range names(base) {
		d := filepath.Join(base, t)
		if out == nil {
			out = map[string]api.ResourcesGPUCardMdev{}
		}
		out[t] = api.ResourcesGPUCardMdev{
			API: text(d + "/device_api"), Available: number(d + "/available_instances"), Name: text(d + "/name"),
			Description: text(d + "/description"), Devices: append([]string{}, names(d+"/devices")...),
		}
	}
	return out
}
