package sysinfo

import (
	"path/filepath"
	"strings"

	"sett/shared/api"
)

// network lists the cards that are hardware: those with a device behind them, then those
// that the bus alone knows. Virtual functions are listed with the card they are cut from.
func (h Host) network(list ids) api.ResourcesNetwork {
	out := api.ResourcesNetwork{Cards: []api.ResourcesNetworkCard{}}
	seen, vfs := map[string]bool{}, map[string][]api.ResourcesNetworkCard{}
	add := func(dir, real string) {
		if seen[real] {
			return
		}
		seen[real] = true
		out.Total++
		d := h.device(dir, list)
		c := api.ResourcesNetworkCard{
			Driver: d.driver, DriverVersion: d.version, NUMANode: d.node, PCIAddress: d.pci, USBAddress: d.usb,
			Vendor: d.vendorName, VendorID: d.vendor, Product: d.productName, ProductID: d.product,
		}
		for _, name := range names(dir + "/net") {
			p, firmware := h.port(dir, name)
			c.Ports = append(c.Ports, p)
			if c.FirmwareVersion == "" {
				c.FirmwareVersion = firmware
			}
		}
		if parent := linkName(dir + "/physfn"); parent != "" {
			vfs[parent] = append(vfs[parent], c)
			return
		}
		if exists(dir + "/sriov_numvfs") {
			c.SRIOV = &api.ResourcesNetworkCardSRIOV{CurrentVFs: number(dir + "/sriov_numvfs"), MaximumVFs: number(dir + "/sriov_totalvfs"), VFs: []api.ResourcesNetworkCard{}}
		}
		out.Cards = append(out.Cards, c)
	}
	base := h.sys("class/net")
	for _, name := range names(base) {
		dir := filepath.Join(base, name, "device")
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			add(dir, real)
		}
	}
	base = h.sys("bus/pci/devices")
	for _, addr := range names(base) {
		dir := filepath.Join(base, addr)
		// Virtio's interfaces lie one level deeper and were seen above.
		if real, err := filepath.EvalSymlinks(dir); err == nil && strings.HasPrefix(text(dir+"/class"), "0x02") && !below(seen, real) {
			add(dir, real)
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

func below(seen map[string]bool, dir string) bool {
	for s := range seen {
		if strings.HasPrefix(s, dir+"/") {
			return true
		}
	}
	return false
}

func (h Host) port(device, name string) (api.ResourcesNetworkCardPort, string) {
	dir := filepath.Join(device, "net", name)
	p := api.ResourcesNetworkCardPort{ID: name, Address: text(dir + "/address"), Port: number(dir + "/dev_port"), Protocol: "unknown"}
	switch text(dir + "/type") {
	case "1":
		p.Protocol = "ethernet"
	case "32":
		p.Protocol = "infiniband"
		p.Infiniband = infiniband(device, p.Port)
	}
	// Virtual functions say nothing of use about a cable that they do not have.
	if h.Link == nil || exists(device+"/physfn") {
		return p, ""
	}
	l, ok := h.Link(name)
	if !ok {
		return p, ""
	}
	if l.Address != "" {
		p.Address = l.Address
	}
	p.SupportedModes, p.SupportedPorts, p.PortType, p.TransceiverType = l.Modes, l.Ports, l.Port, l.Transceiver
	p.AutoNegotiation, p.LinkDetected, p.LinkSpeed, p.LinkDuplex = l.AutoNegotiation, l.Detected, l.SpeedMbit, l.Duplex
	return p, l.Firmware
}

// infiniband finds the device nodes of a port; the kernel counts ports from 1 there.
func infiniband(device string, port uint64) *api.ResourcesNetworkCardPortInfiniband {
	out := &api.ResourcesNetworkCardPortInfiniband{}
	for _, n := range names(device + "/infiniband_mad") {
		d := filepath.Join(device, "infiniband_mad", n)
		if number(d+"/port") != port+1 {
			continue
		}
		if strings.HasPrefix(n, "issm") {
			out.IsSMName, out.IsSMDevice = n, text(d+"/dev")
		} else {
			out.MADName, out.MADDevice = n, text(d+"/dev")
		}
	}
	for _, n := range names(device + "/infiniband_verbs") {
		out.VerbName, out.VerbDevice = n, text(filepath.Join(device, "infiniband_verbs", n, "dev"))
	}
	return out
}
