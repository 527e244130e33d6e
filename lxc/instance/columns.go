package instance

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
	"sett/shared/units"
)

// column is one column of the list.
type column struct {
	title     string
	value     func(api.InstanceFull) string
	needsFull bool // state or snapshots
}

// columns are what -c can name by one letter.
func columns() map[rune]column {
	return map[rune]column{
		'4': {i18n.G("IPV4"), func(i api.InstanceFull) string { return addresses(i, "inet") }, true},
		'6': {i18n.G("IPV6"), func(i api.InstanceFull) string { return addresses(i, "inet6") }, true},
		'a': {i18n.G("ARCHITECTURE"), func(i api.InstanceFull) string { return i.Architecture }, false},
		'b': {i18n.G("STORAGE POOL"), pool, false},
		'c': {i18n.G("CREATED AT"), func(i api.InstanceFull) string { return cli.Stamp(i.CreatedAt) }, false},
		'd': {i18n.G("DESCRIPTION"), func(i api.InstanceFull) string { return i.Description }, false},
		'D': {i18n.G("DISK USAGE"), diskUsage, true},
		'e': {i18n.G("PROJECT"), func(i api.InstanceFull) string { return i.Project }, false},
		'f': {i18n.G("BASE IMAGE"), func(i api.InstanceFull) string {
			fp := i.Config["volatile.base_image"]
			return fp[:min(12, len(fp))]
		}, false},
		'F': {i18n.G("BASE IMAGE"), func(i api.InstanceFull) string { return i.Config["volatile.base_image"] }, false},
		'l': {i18n.G("LAST USED AT"), func(i api.InstanceFull) string { return cli.Stamp(i.LastUsedAt) }, false},
		'L': {i18n.G("LOCATION"), func(i api.InstanceFull) string { return i.Location }, false},
		'm': {i18n.G("MEMORY USAGE"), memoryUsage, true},
		'M': {i18n.G("MEMORY USAGE%"), memoryPercent, true},
		'n': {i18n.G("NAME"), func(i api.InstanceFull) string { return i.Name }, false},
		'N': {i18n.G("PROCESSES"), func(i api.InstanceFull) string {
			return whenRunning(i, func(s *api.InstanceState) string { return strconv.FormatInt(s.Processes, 10) })
		}, true},
		'p': {i18n.G("PID"), func(i api.InstanceFull) string {
			return whenRunning(i, func(s *api.InstanceState) string { return strconv.FormatInt(s.Pid, 10) })
		}, true},
		'P': {i18n.G("PROFILES"), func(i api.InstanceFull) string { return strings.Join(i.Profiles, "\n") }, false},
		's': {i18n.G("STATE"), func(i api.InstanceFull) string { return strings.ToUpper(i.Status) }, false},
		'S': {i18n.G("SNAPSHOTS"), func(i api.InstanceFull) string { return strconv.Itoa(len(i.Snapshots)) }, true},
		't': {i18n.G("TYPE"), kind, false},
		'u': {i18n.G("CPU USAGE"), cpuUsage, true},
	}
}

func whenRunning(i api.InstanceFull, show func(*api.InstanceState) string) string {
	if !i.IsActive() || i.State == nil {
		return ""
	}
	return show(i.State)
}

func addresses(i api.InstanceFull, family string) string {
	return whenRunning(i, func(s *api.InstanceState) string {
		var out []string
		for name, n := range s.Network {
			if n.Type == "loopback" {
				continue
			}
			for _, a := range n.Addresses {
				if a.Family == family && a.Scope != "link" && a.Scope != "local" {
					out = append(out, fmt.Sprintf("%s (%s)", a.Address, name))
				}
			}
		}
		slices.Sort(out)
		slices.Reverse(out)
		return strings.Join(out, "\n")
	})
}

func pool(i api.InstanceFull) string {
	for _, d := range i.ExpandedDevices {
		if d["type"] == "disk" && d["path"] == "/" {
			return d["pool"]
		}
	}
	return ""
}

func diskUsage(i api.InstanceFull) string {
	if i.State == nil {
		return ""
	}
	for name, d := range i.ExpandedDevices {
		if d["type"] == "disk" && d["path"] == "/" {
			if u := i.State.Disk[name].Usage; u > 0 {
				return units.GetByteSizeStringIEC(u, 2)
			}
		}
	}
	return ""
}

func memoryUsage(i api.InstanceFull) string {
	return whenRunning(i, func(s *api.InstanceState) string {
		if s.Memory.Usage <= 0 {
			return ""
		}
		return units.GetByteSizeStringIEC(s.Memory.Usage, 2)
	})
}

func memoryPercent(i api.InstanceFull) string {
	return whenRunning(i, func(s *api.InstanceState) string {
		limit, err := units.ParseByteSizeString(i.ExpandedConfig["limits.memory"])
		if err != nil || limit <= 0 || s.Memory.Usage <= 0 {
			return ""
		}
		return fmt.Sprintf("%.1f%%", float64(s.Memory.Usage)/float64(limit)*100)
	})
}

func cpuUsage(i api.InstanceFull) string {
	return whenRunning(i, func(s *api.InstanceState) string {
		return fmt.Sprintf("%ds", s.CPU.Usage/int64(time.Second))
	})
}

func kind(i api.InstanceFull) string {
	t := i.Type
	if t == "" {
		t = "container"
	}
	if i.Ephemeral {
		return fmt.Sprintf("%s (%s)", strings.ToUpper(t), i18n.G("EPHEMERAL"))
	}
	return strings.ToUpper(t)
}

// parseColumns reads the argument of -c: letters, and keys written as
// key[:title[:width]], parted by commas.
func parseColumns(arg string, clustered bool) ([]column, error) {
	known := columns()
	var out []column
	for entry := range strings.SplitSeq(arg, ",") {
		if entry == "" {
			return nil, fmt.Errorf(i18n.G("Empty column entry (redundant, leading or trailing command) in '%s'"), arg)
		}
		if strings.Contains(entry, ".") {
			c, err := keyColumn(entry)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
			continue
		}
		for _, letter := range entry {
			if letter == 'L' && !clustered {
				return nil, errors.New(i18n.G("Can't specify column L when not clustered"))
			}
			c, ok := known[letter]
			if !ok {
				return nil, fmt.Errorf(i18n.G("Unknown column shorthand char '%c' in '%s'"), letter, entry)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// keyColumn reads key[:title[:width]]; key may begin with config: or devices:.
func keyColumn(entry string) (column, error) {
	prefix, rest := "config", entry
	for _, p := range []string{"config", "devices"} {
		if r, ok := strings.CutPrefix(entry, p+":"); ok {
			prefix, rest = p, r
		}
	}
	parts := strings.Split(rest, ":")
	if len(parts) > 3 {
		return column{}, fmt.Errorf(i18n.G("Invalid config key column format (too many fields): '%s'"), entry)
	}
	key := parts[0]
	c := column{title: strings.ReplaceAll(key, ".", " ")}
	if prefix == "config" && !isConfigKey(key) {
		return column{}, fmt.Errorf(i18n.G("Invalid config key '%s' in '%s'"), key, entry)
	}
	if len(parts) > 1 {
		c.title = parts[1]
	}
	width := -1
	if len(parts) > 2 {
		var err error
		if width, err = strconv.Atoi(parts[2]); err != nil {
			return column{}, fmt.Errorf(i18n.G("Invalid max width (must be an integer) '%s' in '%s'"), parts[2], entry)
		}
		if width < -1 {
			return column{}, fmt.Errorf(i18n.G("Invalid max width (must -1, 0 or a positive integer) '%s' in '%s'"), parts[2], entry)
		}
		if width == 0 {
			width = len(c.title)
		}
	}
	c.value = func(i api.InstanceFull) string {
		v := ""
		if prefix == "devices" {
			device, option, _ := strings.Cut(key, ".")
			v = i.ExpandedDevices[device][option]
		} else {
			v = i.ExpandedConfig[key]
		}
		if width >= 0 && len(v) > width {
			v = v[:width]
		}
		return v
	}
	return c, nil
}

// isConfigKey reports whether a key can exist at all, so that a typing error is
// not an empty column.
func isConfigKey(key string) bool {
	family, _, ok := strings.Cut(key, ".")
	return ok && slices.Contains([]string{
		"agent", "boot", "cloud-init", "cluster", "environment", "image", "limits", "linux", "migration",
		"nvidia", "raw", "security", "snapshots", "user", "volatile",
	}, family)
}
