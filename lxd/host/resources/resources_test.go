package resources_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"sett/lxd/host/resources"
)

func TestThisMachine(t *testing.T) {
	t.Parallel()
	r, err := resources.Host{}.Read("x86_64")
	if err != nil {
		t.Fatal(err)
	}
	if r.CPU.Total < uint64(runtime.NumCPU()) || len(r.CPU.Sockets) == 0 || len(r.CPU.Sockets[0].Cores) == 0 {
		t.Errorf("processors: %+v", r.CPU)
	}
	if r.Memory.Total < 1<<20 || r.Memory.Used > r.Memory.Total {
		t.Errorf("memory: %+v", r.Memory)
	}
}

func TestMadeUpMachine(t *testing.T) {
	t.Parallel()
	sys, proc := t.TempDir(), t.TempDir()
	put := func(root, name, text string) {
		t.Helper()
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, to string) {
		t.Helper()
		p := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, p); err != nil {
			t.Fatal(err)
		}
	}
	put(proc, "cpuinfo", "processor\t: 0\nvendor_id\t: Acme\nmodel name\t: One\n\nprocessor\t: 1\nvendor_id\t: Acme\nmodel name\t: One\n")
	put(proc, "meminfo", "MemTotal: 1000 kB\nMemFree: 400 kB\nCached: 100 kB\nHugePages_Total: 2\nHugePages_Free: 1\nHugepagesize: 2048 kB")
	put(proc, "sys/kernel/osrelease", "6.1")
	put(sys, "devices/system/cpu/isolated", "1")
	for _, n := range []string{"0", "1"} {
		put(sys, "devices/system/cpu/cpu"+n+"/topology/core_id", "0")
		put(sys, "devices/system/cpu/cpu"+n+"/topology/physical_package_id", "0")
	}
	put(sys, "devices/system/cpu/cpu0/cache/index0/level", "1")
	put(sys, "devices/system/cpu/cpu0/cache/index0/type", "Data")
	put(sys, "devices/system/cpu/cpu0/cache/index0/size", "48K")
	put(sys, "devices/pci/0000:00:02.0/vendor", "0x1af4")
	put(sys, "devices/pci/0000:00:02.0/block/vda/size", "100")
	put(sys, "devices/pci/0000:00:02.0/block/vda/dev", "254:0")
	put(sys, "devices/pci/0000:00:02.0/block/vda/vda1/partition", "1")
	put(sys, "devices/pci/0000:00:02.0/block/vda/vda1/size", "50")
	link("devices/pci/0000:00:02.0/subsystem", "../../../bus/pci")
	link("devices/pci/0000:00:02.0/block/vda/device", "../..")
	link("class/block/vda", "../../devices/pci/0000:00:02.0/block/vda")
	link("class/block/vda1", "../../devices/pci/0000:00:02.0/block/vda/vda1")
	put(sys, "class/block/loop0/size", "7")

	r, err := resources.Host{Sys: sys, Proc: proc}.Read("x86_64")
	if err != nil {
		t.Fatal(err)
	}
	s := r.CPU.Sockets[0]
	if r.CPU.Total != 2 || s.Name != "One" || s.Vendor != "Acme" || len(s.Cores) != 1 || len(s.Cores[0].Threads) != 2 ||
		!s.Cores[0].Threads[1].Isolated || s.Cores[0].Threads[1].Thread != 1 || s.Cache[0].Size != 48<<10 {
		t.Errorf("processors: %+v", r.CPU)
	}
	if r.Memory.Total != 1000<<10 || r.Memory.Used != 500<<10 || r.Memory.HugepagesUsed != 2<<20 {
		t.Errorf("memory: %+v", r.Memory)
	}
	if len(r.Storage.Disks) != 1 || r.Storage.Disks[0].Size != 51200 || len(r.Storage.Disks[0].Partitions) != 1 || r.Storage.Disks[0].PCIAddress != "0000:00:02.0" {
		t.Errorf("disks: %+v", r.Storage)
	}
	if r.Network.Cards == nil || r.GPU.Cards == nil || r.USB.Devices == nil {
		t.Error("an empty list became null")
	}
}

func TestNoProcessorsIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := (resources.Host{Sys: t.TempDir(), Proc: t.TempDir()}).Read("x86_64"); err == nil {
		t.Error("no error")
	}
}
