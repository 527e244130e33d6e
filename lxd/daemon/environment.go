package daemon

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sett/shared/api"
	"sett/shared/version"
)

// host is what does not change while the daemon lives.
type host struct {
	kernel, release, machine, osName, osVersion, name string
	architectures                                     []string
	features                                          map[string]string
}

var readHost = sync.OnceValue(func() host {
	var h host
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.kernel, h.release, h.machine = unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
	}
	h.name, _ = os.Hostname()
	h.architectures = []string{h.machine}
	if more := map[string]string{"x86_64": "i686", "aarch64": "armv7l"}[h.machine]; more != "" {
		h.architectures = append(h.architectures, more)
	}
	b, err := os.ReadFile("/etc/os-release")
	if err == nil {
		for l := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(strings.TrimSpace(l), "=")
			v = strings.Trim(v, `"'`)
			switch k {
			case "NAME":
				h.osName = v
			case "VERSION_ID":
				h.osVersion = v
			}
		}
	}
	h.features = kernelFeatures()
	return h
})

// kernelFeatures tells the truth about what this kernel can do for instances.
func kernelFeatures() map[string]string {
	yes := func(b bool) string {
		if b {
			return "true"
		}
		return "false"
	}
	exists := func(p string) bool { _, err := os.Stat(p); return err == nil }
	actions, _ := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	_, _, errno := unix.Syscall(unix.SYS_MOUNT_SETATTR, ^uintptr(0), 0, 0)
	return map[string]string{
		"idmapped_mounts":           yes(errno != unix.ENOSYS),
		"netnsid_getifaddrs":        "true",
		"seccomp_listener":          yes(slices.Contains(strings.Fields(string(actions)), "user_notif")),
		"seccomp_listener_continue": yes(slices.Contains(strings.Fields(string(actions)), "user_notif")),
		"shiftfs":                   yes(exists("/sys/module/shiftfs")),
		"uevent_injection":          "true",
		"unpriv_fscaps":             "true",
	}
}

// Environment implements server.Daemon.
func (d *Daemon) Environment(ctx context.Context) api.ServerEnvironment {
	h := readHost()
	eng := d.own.engine.Info()
	shown := d.own.identity.Network()
	e := api.ServerEnvironment{
		Addresses: d.addresses(), Certificate: string(shown.Cert), CertificateFingerprint: shown.Fingerprint(), Architectures: h.architectures, Driver: eng.Driver, DriverVersion: eng.Version, Firewall: "nftables",
		Kernel: h.kernel, KernelArchitecture: h.machine, KernelFeatures: h.features, KernelVersion: h.release,
		LXCFeatures: map[string]string{}, OSName: h.osName, OSVersion: h.osVersion, Server: "lxd", ServerClustered: d.here.Clustered(),
		ServerEventMode: "full-mesh", ServerName: h.name, ServerPid: os.Getpid(), ServerVersion: version.Version,
		StorageSupportedDrivers: []api.ServerStorageDriverInfo{},
	}
	if d.here.Clustered() {
		e.ServerName = d.here.Name()
	}
	for k, v := range eng.Features {
		e.LXCFeatures[k] = map[bool]string{true: "true", false: "false"}[v]
	}
	for _, i := range d.o.StorageDrivers.Supported(ctx) {
		e.StorageSupportedDrivers = append(e.StorageSupportedDrivers, api.ServerStorageDriverInfo{Name: i.Name, Version: i.Version, Remote: i.Remote})
	}
	e.Storage, e.StorageVersion = d.storageInUse(ctx)
	return e
}
