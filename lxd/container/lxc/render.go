package lxc

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/shared/errs"
)

// host is what rendering depends on besides the Spec, so that golden tests can
// pose as hosts that this one is not.
type host struct {
	has      support
	apparmor bool
	exists   func(path string) bool
	isDir    func(path string) bool
}

// devices that every container gets. The kernel lets no user namespace make
// nodes, so liblxc binds the host's; fuse and tun we bind the same way.
var defaultDevices = []container.DeviceRule{
	{Allow: true, Type: 'b', Major: -1, Minor: -1, Access: "m"}, // making a node is not opening it
	{Allow: true, Type: 'c', Major: -1, Minor: -1, Access: "m"},
	{Allow: true, Type: 'c', Major: 136, Minor: -1, Access: "rwm"}, // pts
	{Allow: true, Type: 'c', Major: 1, Minor: 3, Access: "rwm"},    // null
	{Allow: true, Type: 'c', Major: 1, Minor: 5, Access: "rwm"},    // zero
	{Allow: true, Type: 'c', Major: 1, Minor: 7, Access: "rwm"},    // full
	{Allow: true, Type: 'c', Major: 1, Minor: 8, Access: "rwm"},    // random
	{Allow: true, Type: 'c', Major: 1, Minor: 9, Access: "rwm"},    // urandom
	{Allow: true, Type: 'c', Major: 5, Minor: 0, Access: "rwm"},    // tty
	{Allow: true, Type: 'c', Major: 5, Minor: 1, Access: "rwm"},    // console
	{Allow: true, Type: 'c', Major: 5, Minor: 2, Access: "rwm"},    // ptmx
	{Allow: true, Type: 'c', Major: 10, Minor: 229, Access: "rwm"}, // fuse
	{Allow: true, Type: 'c', Major: 10, Minor: 200, Access: "rwm"}, // net/tun
}

// hostMounts are bound where the host has them. The kernel's own checks decide
// what a guest can do there: its root is nobody on these file systems.
var hostMounts = []string{
	"/dev/fuse", "/dev/net/tun", "/proc/sys/fs/binfmt_misc", "/sys/firmware/efi/efivars",
	"/sys/fs/fuse/connections", "/sys/fs/pstore", "/sys/kernel/config", "/sys/kernel/debug",
	"/sys/kernel/security", "/sys/kernel/tracing",
}

// lxcfsFiles are what lxcfs offers in place of the kernel's own.
var lxcfsFiles = []string{
	"proc/cpuinfo", "proc/diskstats", "proc/loadavg", "proc/meminfo", "proc/slabinfo",
	"proc/stat", "proc/swaps", "proc/uptime", "sys/devices/system/cpu",
}

// privilegedDrop is what root of a privileged container, the host's root, loses.
var privilegedDrop = []string{"mac_admin", "mac_override", "sys_module", "sys_rawio", "sys_time"}

type writer struct {
	b   strings.Builder
	err error
}

func (w *writer) set(key, format string, args ...any) {
	v := fmt.Sprintf(format, args...)
	// liblxc reads to the end of the line: a line feed would begin another key.
	if strings.ContainsAny(v, "\n\r\x00") && w.err == nil {
		w.err = errs.Invalid("Value %q of %s holds a line break", v, key)
	}
	fmt.Fprintf(&w.b, "%s = %s\n", key, v)
}

func (w *writer) mount(source, target, fstype string, options ...string) {
	w.set("lxc.mount.entry", "%s %s %s %s 0 0", field(source), field(target), fstype, strings.Join(options, ","))
}

// word quotes one word of a command. liblxc knows both quotes and no escapes.
func (w *writer) word(s string) string {
	switch {
	case s != "" && !strings.ContainsAny(s, " \t'\""):
		return s
	case !strings.Contains(s, "'"):
		return "'" + s + "'"
	case !strings.Contains(s, `"`):
		return `"` + s + `"`
	}
	if w.err == nil {
		w.err = errs.Invalid("Word %q of the init command holds both kinds of quotes", s)
	}
	return s
}

// render writes the configuration for liblxc. staged gives the place on the host
// at which a mount has been prepared, by index, in place of its source.
func render(h host, s container.Spec, staged map[int]string) (string, error) {
	if err := s.ID.Check(); err != nil {
		return "", err
	}
	if err := container.CheckRaw(s.RawLXC); err != nil {
		return "", err
	}
	if strings.ContainsAny(s.RunDir, "\"'$`\\\n") { // it stands in the hook's command
		return "", errs.Invalid("Folder %q cannot hold a container's files, because of the signs in its name", s.RunDir)
	}
	w := &writer{}
	renderIdentity(w, h, s)
	renderRoot(w, s)
	renderMounts(w, h, s, staged)
	renderConfinement(w, h, s)
	renderNetwork(w, s)
	if err := renderLimits(w, h, s); err != nil {
		return "", err
	}
	if s.RawLXC != "" {
		w.b.WriteString(strings.TrimSpace(s.RawLXC) + "\n")
	}
	return w.b.String(), w.err
}

func renderIdentity(w *writer, h host, s container.Spec) {
	p := paths{s.RunDir}
	hostname := s.Hostname
	if hostname == "" {
		hostname = s.ID.Name
	}
	w.set("lxc.uts.name", "%s", hostname)
	if s.Arch != "" {
		w.set("lxc.arch", "%s", s.Arch)
	}
	if s.LogFile != "" {
		w.set("lxc.log.file", "%s", s.LogFile)
		level := s.LogLevel
		if level == "" {
			level = "warn"
		}
		w.set("lxc.log.level", "%s", level)
	}
	size := "auto"
	if s.ConsoleSize > 0 {
		size = strconv.FormatInt(s.ConsoleSize, 10)
	}
	w.set("lxc.console.buffer.size", "%s", size)
	w.set("lxc.console.size", "%s", size)
	if s.ConsoleLog != "" {
		w.set("lxc.console.logfile", "%s", s.ConsoleLog)
		w.set("lxc.console.rotate", "1") // or all is dropped whenever the file is full
	}
	w.set("lxc.tty.max", "0")
	w.set("lxc.pty.max", "1024")

	cmd := "/sbin/init"
	if len(s.InitCmd) > 0 {
		var words []string
		for _, a := range s.InitCmd {
			words = append(words, w.word(a))
		}
		cmd = strings.Join(words, " ")
	}
	w.set("lxc.init.cmd", "%s", cmd)
	w.set("lxc.environment", "container=lxc")
	for _, e := range s.InitEnv {
		w.set("lxc.environment", "%s", e)
	}
	if s.HaltSignal != 0 {
		w.set("lxc.signal.halt", "%d", int(s.HaltSignal))
	}
	w.set("lxc.cgroup.dir.monitor", "%s", monitorGroup(s.ID))
	w.set("lxc.cgroup.dir.monitor.pivot", "%s", pivotGroup(s.ID))
	w.set("lxc.cgroup.dir.container", "%s", payloadGroup(s.ID))

	// liblxc 5.0 brings a guest that reboots back without its idmapped root. The
	// hook's failure makes it give up instead; we start the container afresh.
	w.set("lxc.hook.version", "1")
	w.set("lxc.hook.post-stop", `/bin/sh -c 'test "$LXC_TARGET" != reboot || { : >"%s"; exit 1; }'`, p.reboot())
}

func renderRoot(w *writer, s container.Spec) {
	w.set("lxc.rootfs.path", "dir:%s", s.Rootfs.Path)
	var o []string
	if s.Rootfs.ReadOnly {
		o = append(o, "ro")
	}
	if s.Rootfs.Idmapped && !s.IDMap.Empty() {
		o = append(o, "idmap=container")
	}
	if len(o) > 0 {
		w.set("lxc.rootfs.options", "%s", strings.Join(o, ","))
	}
	uids, gids := s.IDMap.Split()
	for _, e := range uids {
		w.set("lxc.idmap", "u %d %d %d", e.NSID, e.HostID, e.Range)
	}
	for _, e := range gids {
		w.set("lxc.idmap", "g %d %d %d", e.NSID, e.HostID, e.Range)
	}
}

func renderMounts(w *writer, h host, s container.Spec, staged map[int]string) {
	w.set("lxc.autodev", "1")
	mode := "rw"
	if s.IDMap.Empty() {
		mode = "mixed" // root in there is root out here: sysrq and its like stay read-only
	}
	w.set("lxc.mount.auto", "proc:%s sys:%s", mode, mode)

	for _, m := range hostMounts {
		if !h.exists(m) {
			continue
		}
		if h.isDir(m) {
			w.mount(m, m[1:], "none", "rbind", "create=dir", "optional")
		} else {
			w.mount(m, m[1:], "none", "bind", "create=file", "optional")
		}
	}
	w.mount("mqueue", "dev/mqueue", "mqueue", "rw", "relatime", "create=dir", "optional")
	if s.Nesting {
		// A mount of proc or sysfs that nothing covers is what the kernel asks for
		// before it lets a user namespace mount its own.
		w.mount("proc", "dev/.lxc/proc", "proc", "create=dir", "optional")
		w.mount("sysfs", "dev/.lxc/sys", "sysfs", "create=dir", "optional")
	}
	if s.LXCFS != "" {
		for _, f := range lxcfsFiles {
			if src := s.LXCFS + "/" + f; h.exists(src) {
				w.mount(src, f, "none", "bind", "optional")
			}
		}
		if !s.IDMap.Empty() {
			w.mount(s.LXCFS, strings.TrimPrefix(s.LXCFS, "/"), "none", "rbind", "create=dir", "optional")
		}
	}
	for i, m := range s.Mounts {
		src := m.Source
		if p, ok := staged[i]; ok {
			src = p
		}
		fstype, o := m.FSType, slices.Clone(m.Options)
		if fstype == "" {
			fstype = "none"
		}
		if fstype == "none" && !slices.Contains(o, "bind") && !slices.Contains(o, "rbind") {
			o = append([]string{"bind"}, o...)
		}
		switch m.Create {
		case container.CreateDir:
			o = append(o, "create=dir")
		case container.CreateFile:
			o = append(o, "create=file")
		}
		if m.Optional {
			o = append(o, "optional")
		}
		if m.Idmapped && !s.IDMap.Empty() {
			o = append(o, "idmap=container")
		}
		w.mount(src, strings.TrimPrefix(m.Target, "/"), fstype, o...)
	}
}

func renderConfinement(w *writer, h host, s container.Spec) {
	if !s.Seccomp.Empty() {
		w.set("lxc.seccomp.profile", "%s", paths{s.RunDir}.policy())
		if s.Nesting {
			w.set("lxc.seccomp.allow_nesting", "1")
		}
	}
	if h.apparmor {
		profile := s.AppArmor
		if profile == "" {
			profile = "unconfined"
		}
		w.set("lxc.apparmor.profile", "%s", profile)
	}
	drop := slices.Clone(s.DropCaps)
	if s.IDMap.Empty() {
		drop = append(slices.Clone(privilegedDrop), drop...)
	}
	if len(drop) > 0 {
		w.set("lxc.cap.drop", "%s", strings.Join(drop, " "))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Sysctl)) {
		w.set("lxc.sysctl."+k, "%s", s.Sysctl[k])
	}
	for _, k := range slices.Sorted(maps.Keys(s.Rlimits)) {
		w.set("lxc.prlimit."+k, "%s", s.Rlimits[k])
	}
	oom := 0
	if s.OOMScoreAdj != nil {
		oom = *s.OOMScoreAdj
	}
	w.set("lxc.proc.oom_score_adj", "%d", oom)
}

func renderNetwork(w *writer, s container.Spec) {
	if len(s.NICs) == 0 {
		w.set("lxc.net.0.type", "empty") // a namespace of its own, with lo only
		return
	}
	for i, n := range s.NICs {
		key := func(k string) string { return fmt.Sprintf("lxc.net.%d.%s", i, k) }
		w.set(key("type"), "phys")
		w.set(key("flags"), "up")
		w.set(key("link"), "%s", n.HostName)
		w.set(key("name"), "%s", n.GuestName)
		if n.HWAddr != "" {
			w.set(key("hwaddr"), "%s", n.HWAddr)
		}
		if n.MTU > 0 {
			w.set(key("mtu"), "%d", n.MTU)
		}
	}
}

func renderLimits(w *writer, h host, s container.Spec) error {
	all := settings(h.has, s.Limits, false)
	if err := missing(h.has, all); err != nil {
		return err
	}
	for _, c := range all {
		if c.v2 {
			w.set("lxc.cgroup2."+c.file, "%s", c.value)
		} else {
			w.set("lxc.cgroup."+c.file, "%s", c.value)
		}
	}
	// For all containers: root of a user namespace cannot make device nodes, but an image
	// may bring them, and with its ids mapped it would open the host's disks by them.
	v2, ok := h.has("devices")
	prefix := "lxc.cgroup.devices."
	if !ok || v2 {
		prefix = "lxc.cgroup2.devices." // a BPF program; v2 has no such controller
	}
	w.set(prefix+"deny", "a")
	for _, r := range append(slices.Clone(defaultDevices), s.DeviceRules...) {
		verb := "deny"
		if r.Allow {
			verb = "allow"
		}
		w.set(prefix+verb, "%s", deviceRule(r))
	}
	return nil
}

func deviceRule(r container.DeviceRule) string {
	n := func(i int) string {
		if i < 0 {
			return "*"
		}
		return fmt.Sprint(i)
	}
	return fmt.Sprintf("%c %s:%s %s", r.Type, n(r.Major), n(r.Minor), r.Access)
}

func apparmorHost() bool {
	return unix.Access("/sys/kernel/security/apparmor/profiles", unix.F_OK) == nil
}
