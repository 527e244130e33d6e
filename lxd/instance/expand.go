package instance

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"sett/lxd/entity"
	"sett/lxd/profile"
	"sett/shared/errs"
)

// Instance is an instance as stored, with its profiles.
type Instance struct {
	ID           int64
	Project      string
	Name         string
	Location     string // name of the member that holds it
	Architecture string
	Ephemeral    bool
	Created      time.Time
	LastUsed     time.Time
	Description  string
	Config       map[string]string
	Devices      map[string]map[string]string
	Profiles     []profile.Profile

	expandedConfig  map[string]string
	expandedDevices map[string]map[string]string
}

// Ref names the instance.
func (i *Instance) Ref() entity.Ref { return entity.New(entity.Instance, i.Project, i.Name) }

// ExpandedConfig is what holds: the profiles' keys in order, then the instance's own.
func (i *Instance) ExpandedConfig() map[string]string {
	if i.expandedConfig == nil {
		m := map[string]string{}
		for _, p := range i.Profiles {
			maps.Copy(m, p.Config)
		}
		maps.Copy(m, i.Config)
		i.expandedConfig = m
	}
	return i.expandedConfig
}

// ExpandedDevices is the same for devices: a later one replaces an earlier one of
// its name as a whole.
func (i *Instance) ExpandedDevices() map[string]map[string]string {
	if i.expandedDevices == nil {
		m := map[string]map[string]string{}
		for _, p := range i.Profiles {
			maps.Copy(m, p.Devices)
		}
		maps.Copy(m, i.Devices)
		i.expandedDevices = m
	}
	return i.expandedDevices
}

// effective is a device with what it takes over from the instance's configuration: a nic
// without a priority of its own has the instance's.
func (i *Instance) effective(c map[string]string) map[string]string {
	const key = "limits.priority"
	p := LimitNetwork.Get(i.ExpandedConfig())
	if c["type"] != "nic" || c[key] != "" || p == 0 {
		return c
	}
	c = maps.Clone(c)
	c[key] = strconv.FormatInt(p, 10)
	return c
}

// clone copies what updates change, so that old and new can be compared.
func (i *Instance) clone() *Instance {
	n := *i
	n.Config = maps.Clone(i.Config)
	n.Devices = map[string]map[string]string{}
	for k, d := range i.Devices {
		n.Devices[k] = maps.Clone(d)
	}
	n.Profiles = slices.Clone(i.Profiles)
	n.expandedConfig, n.expandedDevices = nil, nil
	return &n
}

// errNoRoot is what keeps an instance from being made and from starting. One that is
// there may be without a root disk for a while, between one set of profiles and the next.
var errNoRoot = errs.Invalid("No root device could be found; add a disk with path=/ and a pool")

// rootDevice finds the one disk at "/".
func rootDevice(devs map[string]map[string]string) (string, map[string]string, error) {
	name := ""
	for n, d := range devs {
		if d["type"] != "disk" || d["path"] != "/" || d["pool"] == "" {
			continue
		}
		if name != "" {
			return "", nil, errs.Invalid("An instance takes one root disk, %q and %q are two", min(name, n), max(name, n))
		}
		name = n
	}
	if name == "" {
		return "", nil, errNoRoot
	}
	return name, devs[name], nil
}

// deviceOrder sorts devices for starting: the root disk first, then other disks by
// path so that parents are mounted before what lies in them, then the rest by name.
func deviceOrder(devs map[string]map[string]string) []string {
	names := slices.Sorted(maps.Keys(devs))
	rank := func(n string) int {
		d := devs[n]
		switch {
		case d["type"] == "disk" && d["path"] == "/":
			return 0
		case d["type"] == "disk":
			return 1
		}
		return 2
	}
	slices.SortStableFunc(names, func(a, b string) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		if rank(a) == 1 {
			if pa, pb := devs[a]["path"], devs[b]["path"]; pa < pb {
				return -1
			} else if pa > pb {
				return 1
			}
		}
		return 0
	})
	return names
}
