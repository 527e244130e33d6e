package sysinfo

import (
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"sett/shared/api"
)

// models maps the number of each processor to vendor and name.
func (h Host) models() map[int64][2]string {
	out := map[int64][2]string{}
	cpu, vendor, name := int64(-1), "", ""
	for l := range strings.Lines(string(read(h.proc("cpuinfo"), mostFile)) + "\n\n") {
		k, v, ok := strings.Cut(l, ":")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		switch {
		case !ok && cpu >= 0:
			out[cpu] = [2]string{vendor, name}
			cpu, vendor, name = -1, "", ""
		case k == "processor":
			var err error
			if cpu, err = strconv.ParseInt(v, 10, 64); err != nil {
				cpu = -1
			}
		case k == "vendor_id":
			vendor = v
		case k == "model name":
			name = v
		}
	}
	return out
}

func (h Host) cpu(machine string) (api.ResourcesCPU, error) {
	out := api.ResourcesCPU{Architecture: machine, Sockets: []api.ResourcesCPUSocket{}}
	base := h.sys("devices/system/cpu")
	cpus := numbered(base, "cpu")
	if len(cpus) == 0 {
		return out, fmt.Errorf("read the processors: %s lists none", base)
	}
	models := h.models()
	isolated := list(text(base + "/isolated"))
	type coreKey struct{ socket, die, core uint64 }
	sockets := map[uint64]*api.ResourcesCPUSocket{}
	cores := map[coreKey]*api.ResourcesCPUCore{}
	var order []coreKey
	for _, n := range cpus {
		dir := fmt.Sprintf("%s/cpu%d", base, n)
		// A processor that was taken out has no topology any more.
		if !exists(dir + "/topology") {
			continue
		}
		k := coreKey{node(dir + "/topology/physical_package_id"), node(dir + "/topology/die_id"), node(dir + "/topology/core_id")}
		s := sockets[k.socket]
		if s == nil {
			m := models[int64(n)]
			s = &api.ResourcesCPUSocket{Vendor: m[0], Name: m[1], Socket: k.socket, Cache: caches(dir + "/cache"),
				FrequencyMinimum: frequency(dir, "cpuinfo_min_freq", "scaling_min_freq"),
				FrequencyTurbo:   frequency(dir, "cpuinfo_max_freq", "scaling_max_freq")}
			sockets[k.socket] = s
		}
		c := cores[k]
		if c == nil {
			c = &api.ResourcesCPUCore{Core: k.core, Die: k.die, Frequency: frequency(dir, "scaling_cur_freq")}
			cores[k] = c
			order = append(order, k)
		}
		t := api.ResourcesCPUThread{ID: int64(n), Thread: uint64(len(c.Threads)), Isolated: isolated[n], Online: true}
		// The first processor often cannot be switched off and has no such file.
		if v := text(dir + "/online"); v == "0" {
			t.Online = false
		}
		if nodes := numbered(dir, "node"); len(nodes) > 0 {
			t.NUMANode = nodes[0]
		}
		c.Threads = append(c.Threads, t)
		out.Total++
	}
	for _, k := range order {
		sockets[k.socket].Cores = append(sockets[k.socket].Cores, *cores[k])
	}
	for _, s := range sockets {
		s.Frequency = mean(s.Cores)
		out.Sockets = append(out.Sockets, *s)
	}
	sort.Slice(out.Sockets, func(a, b int) bool { return out.Sockets[a].Socket < out.Sockets[b].Socket })
	return out, nil
}

// frequency is the first known of the files, in MHz.
func frequency(dir string, files ...string) uint64 {
	for _, f := range files {
		if n := number(filepath.Join(dir, "cpufreq", f)); n > 0 {
			return n / 1000
		}
	}
	return 0
}

// mean is the frequency of a socket: that of those of its cores that tell one.
func mean(cores []api.ResourcesCPUCore) uint64 {
	var sum, n uint64
	for _, c := range cores {
		if c.Frequency > 0 {
			sum, n = sum+c.Frequency, n+1
		}
	}
	if n == 0 {
		return 0
	}
	return sum / n
}

func caches(dir string) []api.ResourcesCPUCache {
	var out []api.ResourcesCPUCache
	for _, i := range numbered(dir, "index") {
		d := fmt.Sprintf("%s/index%d", dir, i)
		size := strings.TrimSuffix(text(d+"/size"), "K")
		n, _ := strconv.ParseUint(size, 10, 64)
		out = append(out, api.ResourcesCPUCache{Level: number(d + "/level"), Type: text(d + "/type"), Size: n << 10})
	}
	return out
}

// list reads "0-3,7".
func list(s string) map[uint64]bool {
	out := map[uint64]bool{}
	for part := range strings.SplitSeq(s, ",") {
		from, to, ok := strings.Cut(part, "-")
		a, err := strconv.ParseUint(from, 10, 16)
		if err != nil {
			continue
		}
		b := a
		if ok {
			if b, err = strconv.ParseUint(to, 10, 16); err != nil {
				continue
			}
		}
		for ; a <= b; a++ {
			out[a] = true
		}
	}
	return out
}
