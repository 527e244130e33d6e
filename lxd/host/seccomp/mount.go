package seccomp

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Options are what a program that mounts the file system is given after -o.
func (m Mount) Options() string {
	var out []string
	for _, f := range []struct {
		flag uint32
		word string
	}{
		{unix.MS_RDONLY, "ro"}, {unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"},
		{unix.MS_SYNCHRONOUS, "sync"}, {unix.MS_DIRSYNC, "dirsync"}, {unix.MS_NOATIME, "noatime"}, {unix.MS_NODIRATIME, "nodiratime"},
	} {
		if m.Flags&f.flag != 0 {
			out = append(out, f.word)
		}
	}
	if m.Data != "" {
		out = append(out, m.Data)
	}
	return strings.Join(out, ",")
}

// HugetlbOptions turns the ids in options of hugetlbfs into the host's; who says none
// means the container's root. host looks an id up.
func HugetlbOptions(data string, host func(group bool, id int64) (int64, bool)) (string, error) {
	ids := map[string]int64{"uid": 0, "gid": 0}
	var out []string
	for _, o := range strings.Split(data, ",") {
		k, v, _ := strings.Cut(o, "=")
		if _, ok := ids[k]; !ok {
			if o != "" {
				out = append(out, o)
			}
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return "", unix.EINVAL
		}
		ids[k] = n
	}
	for _, k := range []string{"uid", "gid"} {
		n, ok := host(k == "gid", ids[k])
		if !ok {
			return "", unix.EINVAL
		}
		out = append(out, k+"="+strconv.FormatInt(n, 10))
	}
	return strings.Join(out, ","), nil
}
