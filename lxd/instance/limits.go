package instance

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"sett/lxd/container"
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
		if l.Memory, err = parseMemory(v, total); err != nil {
			return l, err
		}
		// Memory and swap together: a guest may swap within its limit, not beyond it.
		l.MemorySwap = l.Memory
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
