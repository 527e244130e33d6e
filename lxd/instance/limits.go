package instance

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"sett/lxd/container"
	"sett/shared/errs"
	"sett/shared/units"
)

// limits turns the limits.* keys into what the cgroups take.
func (s *Service) limits(i *Instance) (container.Limits, error) {
	cfg := i.ExpandedConfig()
	var l container.Limits
	if v := LimitMemory.Get(cfg); v != "" {
		total, err := hostMemory()
		if err != nil {
			return l, err
		}
		limit, err := parseMemory(v, total)
		if err != nil {
			return l, err
		}
		if LimitEnforce.Get(cfg) == "soft" {
			l.MemorySoft = limit
		} else {
			// Memory and swap together: a guest may swap within its limit, not beyond it.
			l.Memory, l.MemorySwap = limit, limit
		}
	}
	if !LimitSwap.Get(cfg) {
		l.Swappiness = new(uint64)
		if l.Memory > 0 {
			l.MemorySwap = -1
		}
	} else if cfg[LimitSwapPriority.Name()] != "" {
		v := uint64(usualSwappiness + 10 - LimitSwapPriority.Get(cfg))
		l.Swappiness = &v
	}
	if err := cpuTime(cfg, &l); err != nil {
		return l, err
	}
	if cfg[LimitDisk.Name()] != "" {
		l.BlkioWeight = uint64(max(100*LimitDisk.Get(cfg), 10))
	}
	for _, size := range hugepages() {
		if v := cfg[hugepagePrefix+size]; v != "" {
			n, err := units.ParseByteSizeString(v)
			if err != nil {
				return l, err
			}
			if l.HugepageBytes == nil {
				l.HugepageBytes = map[string]int64{}
			}
			l.HugepageBytes[size] = n
		}
	}
	l.Processes = LimitProcesses.Get(cfg)
	if v := LimitCPU.Get(cfg); v != "" {
		online, err := onlineCPUs()
		if err != nil {
			return l, err
		}
		if l.CPUSet, err = s.cpuSet(i, v, online); err != nil {
			return l, err
		}
	}
	return l, nil
}

// usualSwappiness is the kernel's.
const usualSwappiness = 60

// What the kernel takes as shares of the CPUs' time; who says nothing has fullShares.
const (
	leastShares, fullShares, mostShares = 2, 1024, 1 << 18
	topPriority                         = 10
)

// cpuTime fills in how much time the instance gets on its CPUs. Shares count against
// those of others, and a lower priority than the usual takes a little off, which decides
// between equals.
func cpuTime(cfg map[string]string, l *container.Limits) error {
	v, prio := LimitAllowance.Get(cfg), LimitCPUPriority.Get(cfg)
	if v == "" && cfg[LimitCPUPriority.Name()] == "" {
		return nil
	}
	percent := 100
	if v != "" {
		p, quota, period, err := parseAllowance(v)
		if err != nil {
			return err
		}
		if quota > 0 {
			l.CPUQuota, l.CPUPeriod = quota, period
		} else {
			percent = p
		}
	}
	percent = min(percent, 100*mostShares/fullShares)
	l.CPUShares = uint64(min(max(fullShares*percent/100+int(prio)-topPriority, leastShares), mostShares))
	return nil
}

// parseAllowance reads a percentage, or a time in each period of another.
func parseAllowance(v string) (percent int, quota, period time.Duration, err error) {
	if p, ok := strings.CutSuffix(v, "%"); ok {
		if percent, err = strconv.Atoi(p); err != nil || percent < 0 {
			return 0, 0, 0, errs.Invalid("%q is not a percentage such as 50%% or 200%%", v)
		}
		return percent, 0, 0, nil
	}
	q, p, ok := strings.Cut(v, "/")
	if ok {
		var a, b int
		a, err = millis(q)
		if err == nil {
			b, err = millis(p)
		}
		// The kernel's own bounds.
		if err == nil && a >= 1 && b >= 1 && b <= 1000 && a <= 1000*1000 {
			return 0, time.Duration(a) * time.Millisecond, time.Duration(b) * time.Millisecond, nil
		}
	}
	return 0, 0, 0, errs.Invalid("%q is neither a percentage such as 50%% nor a time in a period such as 25ms/100ms, with a period of up to 1000ms", v)
}

func millis(v string) (int, error) {
	n, ok := strings.CutSuffix(v, "ms")
	if !ok {
		return 0, strconv.ErrSyntax
	}
	return strconv.Atoi(n)
}

// cpuSet picks the CPUs of an instance. A number takes those on which the fewest
// other instances are pinned, so that two instances with one CPU each do not meet.
func (s *Service) cpuSet(i *Instance, v string, online []int) (string, error) {
	count, set, err := parseCPU(v)
	if err != nil {
		return "", err
	}
	if set != nil {
		var have []int
		for _, c := range set {
			if slices.Contains(online, c) {
				have = append(have, c)
			}
		}
		if len(have) == 0 {
			return "", fmt.Errorf("none of the CPUs %s of limits.cpu is online", v)
		}
		return formatSet(have), nil
	}
	if count >= len(online) {
		return "", nil
	}
	load := s.pinned(i.ID)
	pick := slices.Clone(online)
	slices.SortStableFunc(pick, func(a, b int) int { return load[a] - load[b] })
	pick = pick[:count]
	slices.Sort(pick)
	return formatSet(pick), nil
}

// pinned counts, for each CPU, the running instances that are tied to it.
func (s *Service) pinned(except int64) map[int]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int]int{}
	for id, l := range s.live {
		if id == except {
			continue
		}
		l.mu.Lock()
		set := l.cpus
		l.mu.Unlock()
		for _, c := range set {
			out[c]++
		}
	}
	return out
}

func formatSet(cs []int) string {
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i] = strconv.Itoa(c)
	}
	return strings.Join(out, ",")
}

func onlineCPUs() ([]int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return nil, err
	}
	_, set, err := parseCPU(onlyRanges(strings.TrimSpace(string(b))))
	return set, err
}

// onlyRanges makes the lone CPU of a small machine a range, for parseCPU.
func onlyRanges(s string) string {
	if _, err := strconv.Atoi(s); err == nil {
		return s + "-" + s
	}
	return s
}

func hostMemory() (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) >= 2 && f[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no MemTotal")
}
