package resources

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	"sett/shared/api"
	"sett/shared/units"
)

// models maps the number of each processor to vendor and name.
func (h Host) models() map[int64][2]string {
	out := map[int64][2]string{}
	b, err := os.ReadFile(h.proc("cpuinfo"))
	if err != nil {
		return out
	}
	cpu, vendor, name := int64(-1), "", ""
	for l := range strings.Lines(string(b) + "\n\n") {
		k, v, ok := strings.Cut(l, ":")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		switch {
		case !ok && cpu >= 0:
			out[cpu] = [2]string{vendor, name}
			cpu, vendor, name = -1, "", ""
		case k == "processor":
			cpu, _ = strconv.ParseInt(v, 10, 64)
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
		k := coreKey{number(dir + "/topology/physical_package_id"), number(dir + "/topology/die_id"), number(dir + "/topology/core_id")}
		s := sockets[k.socket]
		if s == nil {
			m := models[int64(n)]
			s = &api.ResourcesCPUSocket{Vendor: m[0], Name: m[1], Socket: k.socket, Cache: caches(dir + "/cache"),
				Frequency:        number(dir+"/cpufreq/scaling_cur_freq") / 1000,
				FrequencyMinimum: number(dir+"/cpufreq/cpuinfo_min_freq") / 1000,
				FrequencyTurbo:   number(dir+"/cpufreq/cpuinfo_max_freq") / 1000}
			sockets[k.socket] = s
		}
		c := cores[k]
		if c == nil {
			c = &api.ResourcesCPUCore{Core: k.core, Die: k.die, Frequency: number(dir+"/cpufreq/scaling_cur_freq") / 1000}
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
		out.Sockets = append(out.Sockets, *s)
	}
	sort.Slice(out.Sockets, func(a, b int) bool { return out.Sockets[a].Socket < out.Sockets[b].Socket })
	return out, nil
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

// meminfo reads "MemTotal: 16 kB" lines, with or without "Node 0" in front, as bytes.
func meminfo(path string) (map[string]uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		k, v, ok := strings.Cut(s.Text(), ":")
		if !ok {
			continue
		}
		if f := strings.Fields(k); len(f) > 0 {
			k = f[len(f)-1]
		}
		n, err := units.ParseByteSizeString(strings.TrimSpace(strings.Replace(v, " kB", "KiB", 1)))
		if err == nil {
			out[k] = uint64(n)
		}
	}
	return out, nil
}

func (h Host) memory() (api.ResourcesMemory, error) {
	m, err := meminfo(h.proc("meminfo"))
	if err != nil {
		return api.ResourcesMemory{}, fmt.Errorf("read the memory: %w", err)
	}
	out := api.ResourcesMemory{
		Total: m["MemTotal"], Used: m["MemTotal"] - m["MemFree"] - m["Cached"] - m["SReclaimable"] - m["Buffers"],
		HugepagesTotal: m["HugePages_Total"] * m["Hugepagesize"],
		HugepagesUsed:  (m["HugePages_Total"] - m["HugePages_Free"]) * m["Hugepagesize"],
		HugepagesSize:  m["Hugepagesize"],
	}
	dir := h.sys("devices/system/node")
	for _, n := range numbered(dir, "node") {
		i, err := meminfo(fmt.Sprintf("%s/node%d/meminfo", dir, n))
		if err != nil {
			continue
		}
		out.Nodes = append(out.Nodes, api.ResourcesMemoryNode{
			NUMANode: n, Total: i["MemTotal"], Used: i["MemUsed"],
			HugepagesTotal: i["HugePages_Total"] * m["Hugepagesize"],
			HugepagesUsed:  (i["HugePages_Total"] - i["HugePages_Free"]) * m["Hugepagesize"],
		})
	}
	return out, nil
}
