package lxc

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sett/lxd/container"
	"sett/lxd/host/cgroup"
)

// setting is one value in one cgroup file.
type setting struct {
	controller, file, value string
	v2                      bool
	// need: the container must not run without it. The others are best effort where
	// the host lacks the controller.
	need bool
}

// support says which controller lies in which kind of hierarchy.
type support func(controller string) (v2, ok bool)

func supportOf(l *cgroup.Layout) support {
	return func(c string) (bool, bool) {
		h := l.Find(c)
		if h == nil {
			return false, false
		}
		return h.V2, true
	}
}

const unlimitedV1 = "-1"

// settings turns limits into the files that hold them, in an order in which they
// can be written to a fresh group. With all, "no limit" is written out too, to
// take back a limit that was set before.
func settings(has support, l container.Limits, all bool) []setting {
	var out []setting
	add := func(need bool, controller, v1file, v1value, v2file, v2value string) {
		v2, ok := has(controller)
		if !ok {
			if need {
				out = append(out, setting{controller: controller, file: v1file, value: v1value, need: true})
			}
			return
		}
		file, value := v1file, v1value
		if v2 {
			file, value = v2file, v2value
		}
		if file != "" {
			out = append(out, setting{controller, file, value, v2, need})
		}
	}
	num := func(n int64) string { return strconv.FormatInt(n, 10) }

	if l.CPUSet != "" {
		add(true, "cpuset", "cpuset.cpus", l.CPUSet, "cpuset.cpus", l.CPUSet)
	}
	if l.CPUShares > 0 || all {
		shares := l.CPUShares
		if shares == 0 {
			shares = 1024
		}
		add(l.CPUShares > 0, "cpu", "cpu.shares", strconv.FormatUint(shares, 10), "cpu.weight", strconv.FormatUint(weight(shares), 10))
	}
	if l.CPUQuota > 0 {
		period := l.CPUPeriod
		if period <= 0 {
			period = 100 * time.Millisecond
		}
		q, p := num(l.CPUQuota.Microseconds()), num(period.Microseconds())
		if v2, _ := has("cpu"); !v2 {
			add(true, "cpu", "cpu.cfs_period_us", p, "", "")
		}
		add(true, "cpu", "cpu.cfs_quota_us", q, "cpu.max", q+" "+p)
	} else if all {
		add(false, "cpu", "cpu.cfs_quota_us", unlimitedV1, "cpu.max", "max 100000")
	}

	if l.Memory > 0 {
		add(true, "memory", "memory.limit_in_bytes", num(l.Memory), "memory.max", num(l.Memory))
	} else if all {
		add(false, "memory", "memory.limit_in_bytes", unlimitedV1, "memory.max", "max")
	}
	if l.MemorySoft > 0 {
		add(false, "memory", "memory.soft_limit_in_bytes", num(l.MemorySoft), "memory.high", num(l.MemorySoft))
	} else if all {
		add(false, "memory", "memory.soft_limit_in_bytes", unlimitedV1, "memory.high", "max")
	}
	switch {
	case l.MemorySwap == -1 && l.Memory > 0: // the same limit for memory and for both
		add(false, "memory", "memory.memsw.limit_in_bytes", num(l.Memory), "memory.swap.max", "0")
	case l.MemorySwap > 0:
		add(false, "memory", "memory.memsw.limit_in_bytes", num(l.MemorySwap), "memory.swap.max", num(max(l.MemorySwap-l.Memory, 0)))
	case all:
		add(false, "memory", "memory.memsw.limit_in_bytes", unlimitedV1, "memory.swap.max", "max")
	}
	if l.Swappiness != nil {
		add(false, "memory", "memory.swappiness", strconv.FormatUint(*l.Swappiness, 10), "", "")
	} else if all {
		add(false, "memory", "memory.swappiness", "60", "", "")
	}
	if l.Processes > 0 {
		add(true, "pids", "pids.max", num(l.Processes), "pids.max", num(l.Processes))
	} else if all {
		add(false, "pids", "pids.max", "max", "pids.max", "max")
	}
	if l.BlkioWeight > 0 || all {
		w := "100"
		if l.BlkioWeight > 0 {
			w = strconv.FormatUint(l.BlkioWeight, 10)
		}
		if _, ok := has("io"); ok {
			add(false, "io", "", "", "io.bfq.weight", w)
		} else {
			add(false, "blkio", "blkio.bfq.weight", w, "", "")
		}
	}
	sizes := make([]string, 0, len(l.HugepageBytes))
	for size := range l.HugepageBytes {
		sizes = append(sizes, size)
	}
	slices.Sort(sizes)
	for _, size := range sizes {
		n := num(l.HugepageBytes[size])
		add(true, "hugetlb", "hugetlb."+size+".limit_in_bytes", n, "hugetlb."+size+".max", n)
	}
	return out
}

// weight turns v1's shares (2-262144, 1024) into v2's weight (1-10000, 100) as
// systemd and the kernel's documentation of the two suggest.
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

// live is the order in which changed settings can be written to a group in use:
// v1 refuses a memory limit above that of memory and swap together, and one of
// the two below it, so what grows goes the other way round than what shrinks.
func live(has support, old, now container.Limits) []setting {
	before := map[string]string{}
	for _, s := range settings(has, old, true) {
		before[s.file] = s.value
	}
	var out []setting
	for _, s := range settings(has, now, true) {
		if before[s.file] != s.value {
			out = append(out, s)
		}
	}
	for size := range old.HugepageBytes {
		if _, ok := now.HugepageBytes[size]; ok {
			continue
		}
		if v2, ok := has("hugetlb"); ok && v2 {
			out = append(out, setting{controller: "hugetlb", file: "hugetlb." + size + ".max", value: "max", v2: true})
		} else if ok {
			out = append(out, setting{controller: "hugetlb", file: "hugetlb." + size + ".limit_in_bytes", value: unlimitedV1})
		}
	}
	if grows(old.Memory, now.Memory) {
		i := slices.IndexFunc(out, func(s setting) bool { return s.file == "memory.limit_in_bytes" })
		j := slices.IndexFunc(out, func(s setting) bool { return s.file == "memory.memsw.limit_in_bytes" })
		if i >= 0 && j > i {
			out[i], out[j] = out[j], out[i]
		}
	}
	if old.CPUSet != "" && now.CPUSet == "" {
		if v2, ok := has("cpuset"); ok {
			// v2 takes an empty set for "all of the parent's"; v1 wants them named.
			out = append(out, setting{controller: "cpuset", file: "cpuset.cpus", value: "", v2: v2})
		}
	}
	return out
}

func grows(old, now int64) bool { return now == 0 && old != 0 || old != 0 && now > old }

// missing names what a host lacks for settings that a container needs.
func missing(has support, all []setting) error {
	var lack []string
	for _, s := range all {
		if _, ok := has(s.controller); !ok && s.need && !slices.Contains(lack, s.controller) {
			lack = append(lack, s.controller)
		}
	}
	if len(lack) == 0 {
		return nil
	}
	return fmt.Errorf("the limits need the cgroup controller %s: %w", strings.Join(lack, ", "), cgroup.ErrNoController)
}
