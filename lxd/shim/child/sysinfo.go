package child

import (
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysinfo is struct sysinfo as it would be on a host that has no more than the
// container may use.
func (i *interceptor) sysinfo() ([]byte, error) {
	var s unix.Sysinfo_t
	if err := unix.Sysinfo(&s); err != nil {
		return nil, err
	}
	i.mu.Lock()
	started := i.started
	i.mu.Unlock()
	narrow(&s, i.use(), time.Duration(s.Uptime)*time.Second-started)
	return unsafe.Slice((*byte)(unsafe.Pointer(&s)), unsafe.Sizeof(s)), nil
}

// use is what a container uses and may use, in bytes; -1 for what is not known or has
// no limit.
type use struct {
	memory, memoryMax int64
	swap, swapMax     int64
	shared, processes int64
}

func (i *interceptor) use() use {
	num := func(file string) int64 {
		n, err := i.group.ReadInt("memory", file)
		if err != nil {
			return -1
		}
		return n
	}
	u := use{swap: -1, swapMax: -1, shared: -1, processes: -1}
	if h := i.layout.Find("memory"); h != nil && h.V2 {
		u.memory, u.memoryMax = num("memory.current"), num("memory.max")
		u.swap, u.swapMax = num("memory.swap.current"), num("memory.swap.max")
	} else {
		u.memory, u.memoryMax = num("memory.usage_in_bytes"), num("memory.limit_in_bytes")
		// Of v1 both files count memory and swap together.
		if both := num("memory.memsw.usage_in_bytes"); both >= 0 {
			u.swap = max(both-u.memory, 0)
		}
		if both := num("memory.memsw.limit_in_bytes"); both >= 0 && u.memoryMax >= 0 {
			u.swapMax = max(both-u.memoryMax, 0)
		}
	}
	if s, err := i.group.Read("memory", "memory.stat"); err == nil {
		for line := range strings.Lines(s) {
			if v, ok := strings.CutPrefix(line, "shmem "); ok {
				if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
					u.shared = n
				}
			}
		}
	}
	if n, err := i.group.ReadInt("pids", "pids.current"); err == nil {
		u.processes = n
	}
	return u
}

// narrow turns what the host has into what a container has.
func narrow(s *unix.Sysinfo_t, u use, up time.Duration) {
	unit := max(uint64(s.Unit), 1)
	for _, n := range []*uint64{&s.Totalram, &s.Freeram, &s.Sharedram, &s.Bufferram, &s.Totalswap, &s.Freeswap, &s.Totalhigh, &s.Freehigh} {
		*n *= unit
	}
	s.Unit = 1
	if u.memoryMax >= 0 {
		s.Totalram = min(s.Totalram, uint64(u.memoryMax))
	}
	if u.memory >= 0 {
		s.Freeram = min(s.Freeram, s.Totalram-min(s.Totalram, uint64(u.memory)))
		s.Bufferram = 0
	}
	if u.shared >= 0 {
		s.Sharedram = min(uint64(u.shared), s.Totalram)
	}
	if u.swapMax >= 0 {
		s.Totalswap = min(s.Totalswap, uint64(u.swapMax))
	}
	if u.swap >= 0 {
		s.Freeswap = min(s.Freeswap, s.Totalswap-min(s.Totalswap, uint64(u.swap)))
	}
	if u.processes >= 0 {
		s.Procs = uint16(min(u.processes, 1<<16-1))
	}
	s.Uptime = int64(max(up, 0) / time.Second)
}
