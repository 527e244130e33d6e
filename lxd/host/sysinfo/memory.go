package sysinfo

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"sett/shared/api"
)

// meminfo reads "MemTotal: 16 kB" lines, with or without "Node 0" in front, as bytes.
func meminfo(path string) (map[string]uint64, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for l := range strings.Lines(string(read(path, mostText))) {
		k, v, _ := strings.Cut(l, ":")
		key, val := strings.Fields(k), strings.Fields(v)
		if len(key) == 0 || len(val) == 0 {
			continue
		}
		n, err := strconv.ParseUint(val[0], 10, 53)
		if err != nil {
			continue
		}
		if len(val) > 1 && val[1] == "kB" {
			n <<= 10
		}
		out[key[len(key)-1]] = n
	}
	return out, nil
}

// blocks is the memory that the blocks in a folder stand for: all that the machine
// has, where MemTotal lacks what the kernel keeps for itself. 0 where it has no blocks.
func (h Host) blocks(dir string) uint64 {
	size, err := strconv.ParseUint(text(h.sys("devices/system/memory/block_size_bytes")), 16, 40)
	if err != nil {
		return 0
	}
	var n uint64
	for _, b := range numbered(dir, "memory") {
		if number(fmt.Sprintf("%s/memory%d/online", dir, b)) == 1 {
			n++
		}
	}
	return n * size
}

// less subtracts without going below nothing: the numbers are of different moments.
func less(n uint64, subs ...uint64) uint64 {
	for _, s := range subs {
		n -= min(n, s)
	}
	return n
}

func (h Host) memory() (api.ResourcesMemory, error) {
	m, err := meminfo(h.proc("meminfo"))
	if err != nil {
		return api.ResourcesMemory{}, fmt.Errorf("read the memory: %w", err)
	}
	page := m["Hugepagesize"]
	out := api.ResourcesMemory{
		Total: h.blocks(h.sys("devices/system/memory")), HugepagesSize: page,
		HugepagesTotal: m["HugePages_Total"] * page,
		HugepagesUsed:  less(m["HugePages_Total"], m["HugePages_Free"]) * page,
	}
	if out.Total == 0 {
		out.Total = m["MemTotal"]
	}
	out.Used = less(out.Total, m["MemFree"], m["Cached"], m["Buffers"])
	base := h.sys("devices/system/node")
	for _, n := range numbered(base, "node") {
		dir := fmt.Sprintf("%s/node%d", base, n)
		i, err := meminfo(dir + "/meminfo")
		if err != nil {
			continue
		}
		o := api.ResourcesMemoryNode{
			NUMANode: n, Total: h.blocks(dir), Used: i["MemUsed"], HugepagesTotal: i["HugePages_Total"] * page,
			HugepagesUsed: less(i["HugePages_Total"], i["HugePages_Free"]) * page,
		}
		if o.Total == 0 {
			o.Total = i["MemTotal"]
		}
		out.Nodes = append(out.Nodes, o)
	}
	return out, nil
}
