package instance

import (
	"fmt"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
	"sett/shared/units"
)

func iec(n uint64) string { return units.GetByteSizeStringIEC(int64(n), 2) }

func iecShort(n uint64) string { return units.GetByteSizeStringIEC(int64(n), 0) }

// showMany prints things under a title: one directly, many numbered.
func showMany[T any](a *cli.App, one, many, item string, things []T, show func(indent string, t T)) {
	switch len(things) {
	case 0:
		return
	case 1:
		a.Printf("\n%s\n", one)
		show("  ", things[0])
		return
	}
	a.Printf("\n%s\n", many)
	for i, t := range things {
		a.Printf("  "+item+"\n", i)
		show("    ", t)
	}
}

// showResources prints the hardware of a server.
func showResources(a *cli.App, r *api.Resources) {
	showCPU(a, &r.CPU)
	a.Printf("\n%s\n", i18n.G("Memory:"))
	if r.Memory.HugepagesTotal > 0 {
		a.Printf("  %s\n", i18n.G("Hugepages:"))
		a.Printf("    "+i18n.G("Free: %v")+"\n", iec(r.Memory.HugepagesTotal-r.Memory.HugepagesUsed))
		a.Printf("    "+i18n.G("Used: %v")+"\n", iec(r.Memory.HugepagesUsed))
		a.Printf("    "+i18n.G("Total: %v")+"\n", iec(r.Memory.HugepagesTotal))
	}
	a.Printf("  "+i18n.G("Free: %v")+"\n", iec(r.Memory.Total-r.Memory.Used))
	a.Printf("  "+i18n.G("Used: %v")+"\n", iec(r.Memory.Used))
	a.Printf("  "+i18n.G("Total: %v")+"\n", iec(r.Memory.Total))
	showMany(a, i18n.G("GPU:"), i18n.G("GPUs:"), i18n.G("Card %d:"), r.GPU.Cards, func(in string, c api.ResourcesGPUCard) { showGPU(a, in, c) })
	showMany(a, i18n.G("NIC:"), i18n.G("NICs:"), i18n.G("Card %d:"), r.Network.Cards, func(in string, c api.ResourcesNetworkCard) { showNIC(a, in, c) })
	showMany(a, i18n.G("Disk:"), i18n.G("Disks:"), i18n.G("Disk %d:"), r.Storage.Disks, func(in string, d api.ResourcesStorageDisk) { showDisk(a, in, d) })
}

func showCPU(a *cli.App, cpu *api.ResourcesCPU) {
	if len(cpu.Sockets) == 1 {
		a.Printf(i18n.G("CPU (%s):")+"\n", cpu.Architecture)
		showSocket(a, "  ", cpu.Sockets[0])
		return
	}
	a.Printf(i18n.G("CPUs (%s):")+"\n", cpu.Architecture)
	for _, s := range cpu.Sockets {
		a.Printf("  "+i18n.G("Socket %d:")+"\n", s.Socket)
		showSocket(a, "    ", s)
	}
}

func showSocket(a *cli.App, in string, s api.ResourcesCPUSocket) {
	if s.Vendor != "" {
		a.Printf(in+i18n.G("Vendor: %v")+"\n", s.Vendor)
	}
	if s.Name != "" {
		a.Printf(in+i18n.G("Name: %v")+"\n", s.Name)
	}
	if len(s.Cache) > 0 {
		a.Println(in + i18n.G("Caches:"))
		for _, c := range s.Cache {
			a.Printf(in+"  - "+i18n.G("Level %d (type: %s): %s")+"\n", c.Level, c.Type, iecShort(c.Size))
		}
	}
	a.Println(in + i18n.G("Cores:"))
	for _, core := range s.Cores {
		a.Printf(in+"  - "+i18n.G("Core %d")+"\n", core.Core)
		a.Printf(in+"    "+i18n.G("Frequency: %vMhz")+"\n", core.Frequency)
		a.Println(in + "    " + i18n.G("Threads:"))
		for _, t := range core.Threads {
			a.Printf(in+"      - "+i18n.G("%d (id: %d, online: %v, NUMA node: %v)")+"\n", t.Thread, t.ID, t.Online, t.NUMANode)
		}
	}
	if s.Frequency > 0 {
		if s.FrequencyTurbo > 0 && s.FrequencyMinimum > 0 {
			a.Printf(in+i18n.G("Frequency: %vMhz (min: %vMhz, max: %vMhz)")+"\n", s.Frequency, s.FrequencyMinimum, s.FrequencyTurbo)
		} else {
			a.Printf(in+i18n.G("Frequency: %vMhz")+"\n", s.Frequency)
		}
	}
}

func withID(name, id string) string {
	if id == "" {
		return name
	}
	return fmt.Sprintf("%s (%s)", name, id)
}

// head prints what cards have in common.
func head(a *cli.App, in string, numa uint64, vendor, vendorID, product, productID, pci, driver, version string) {
	a.Printf(in+i18n.G("NUMA node: %v")+"\n", numa)
	if vendor != "" {
		a.Printf(in+i18n.G("Vendor: %v")+"\n", withID(vendor, vendorID))
	}
	if product != "" {
		a.Printf(in+i18n.G("Product: %v")+"\n", withID(product, productID))
	}
	if pci != "" {
		a.Printf(in+i18n.G("PCI address: %v")+"\n", pci)
	}
	if driver != "" {
		a.Printf(in+i18n.G("Driver: %v")+"\n", withID(driver, version))
	}
}

func showGPU(a *cli.App, in string, c api.ResourcesGPUCard) {
	head(a, in, c.NUMANode, c.Vendor, c.VendorID, c.Product, c.ProductID, c.PCIAddress, c.Driver, c.DriverVersion)
	if d := c.DRM; d != nil {
		a.Println(in + i18n.G("DRM:"))
		a.Printf(in+"  "+i18n.G("ID: %d")+"\n", d.ID)
		for _, n := range []struct{ title, name, device string }{
			{i18n.G("Card"), d.CardName, d.CardDevice}, {i18n.G("Control"), d.ControlName, d.ControlDevice}, {i18n.G("Render"), d.RenderName, d.RenderDevice},
		} {
			if n.name != "" {
				a.Printf(in+"  %s: %s\n", n.title, withID(n.name, n.device))
			}
		}
	}
	if s := c.SRIOV; s != nil {
		a.Println(in + i18n.G("SR-IOV information:"))
		a.Printf(in+"  "+i18n.G("Current number of VFs: %d")+"\n", s.CurrentVFs)
		a.Printf(in+"  "+i18n.G("Maximum number of VFs: %d")+"\n", s.MaximumVFs)
	}
}

func showNIC(a *cli.App, in string, c api.ResourcesNetworkCard) {
	head(a, in, c.NUMANode, c.Vendor, c.VendorID, c.Product, c.ProductID, c.PCIAddress, c.Driver, c.DriverVersion)
	if len(c.Ports) > 0 {
		a.Println(in + i18n.G("Ports:"))
	}
	for _, p := range c.Ports {
		a.Printf(in+"  "+i18n.G("- Port %d (%s)")+"\n", p.Port, p.Protocol)
		line := func(format string, v any) { a.Printf(in+"    "+format+"\n", v) }
		line(i18n.G("ID: %s"), p.ID)
		if p.Address != "" {
			line(i18n.G("Address: %s"), p.Address)
		}
		if p.PortType != "" {
			line(i18n.G("Port type: %s"), p.PortType)
		}
		if p.TransceiverType != "" {
			line(i18n.G("Transceiver type: %s"), p.TransceiverType)
		}
		line(i18n.G("Auto negotiation: %v"), p.AutoNegotiation)
		line(i18n.G("Link detected: %v"), p.LinkDetected)
		if p.LinkSpeed > 0 {
			a.Printf(in+"    "+i18n.G("Link speed: %dMbit/s (%s duplex)")+"\n", p.LinkSpeed, p.LinkDuplex)
		}
	}
	if s := c.SRIOV; s != nil {
		a.Println(in + i18n.G("SR-IOV information:"))
		a.Printf(in+"  "+i18n.G("Current number of VFs: %d")+"\n", s.CurrentVFs)
		a.Printf(in+"  "+i18n.G("Maximum number of VFs: %d")+"\n", s.MaximumVFs)
	}
}

func showDisk(a *cli.App, in string, d api.ResourcesStorageDisk) {
	a.Printf(in+i18n.G("NUMA node: %v")+"\n", d.NUMANode)
	a.Printf(in+i18n.G("ID: %s")+"\n", d.ID)
	a.Printf(in+i18n.G("Device: %s")+"\n", d.Device)
	if d.Model != "" {
		a.Printf(in+i18n.G("Model: %s")+"\n", d.Model)
	}
	if d.Type != "" {
		a.Printf(in+i18n.G("Type: %s")+"\n", d.Type)
	}
	a.Printf(in+i18n.G("Size: %s")+"\n", iec(d.Size))
	if d.WWN != "" {
		a.Printf(in+i18n.G("WWN: %s")+"\n", d.WWN)
	}
	a.Printf(in+i18n.G("Read-Only: %v")+"\n", d.ReadOnly)
	a.Printf(in+i18n.G("Removable: %v")+"\n", d.Removable)
	if len(d.Partitions) == 0 {
		return
	}
	a.Println(in + i18n.G("Partitions:"))
	for _, p := range d.Partitions {
		a.Println(in + "  " + fmt.Sprintf(i18n.G("- Partition %d"), p.Partition))
		a.Printf(in+"    "+i18n.G("ID: %s")+"\n", p.ID)
		a.Printf(in+"    "+i18n.G("Device: %s")+"\n", p.Device)
		a.Printf(in+"    "+i18n.G("Read-Only: %v")+"\n", p.ReadOnly)
		a.Printf(in+"    "+i18n.G("Size: %s")+"\n", iec(p.Size))
	}
}
