// Package lxcfs finds a running lxcfs, the file system that shows a container its
// own share of memory and CPUs in /proc.
package lxcfs

import (
	"os"
	"path/filepath"
	"strings"
)

// Find returns where lxcfs is mounted, or "" when none runs. A mount whose
// process has died is none.
func Find() string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	for _, at := range mounts(string(b)) {
		if _, err := os.Stat(filepath.Join(at, "proc/meminfo")); err == nil {
			return at
		}
	}
	return ""
}

func mounts(mountinfo string) []string {
	var out []string
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		f := strings.Fields(left)
		if ok && len(f) > 4 && strings.HasPrefix(right, "fuse.lxcfs ") {
			out = append(out, strings.NewReplacer(`\040`, " ", `\134`, `\`).Replace(f[4]))
		}
	}
	return out
}
