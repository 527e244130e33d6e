package instance

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sett/lxd/config"
	"sett/lxd/host/idmap"
	"sett/lxd/instance/template"
	"sett/shared/log"
)

// templates renders what the image wants rendered: once for what has happened since
// the last start, and for the start itself.
func (st *starting) templates(ctx context.Context) error {
	i := st.i
	st.l.mu.Lock()
	dir := st.l.dir
	st.l.mu.Unlock()
	v, err := template.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = v.Close() }()
	triggers := []string{template.Start}
	if first := i.Config[volApply]; first != "" {
		triggers = []string{first, template.Start}
	}
	g := template.Guest{Config: shown(i.ExpandedConfig()), Devices: i.ExpandedDevices(), Instance: map[string]string{
		"name": i.Name, "type": "container", "architecture": i.Architecture,
		"privileged": strconv.FormatBool(Privileged.Get(i.ExpandedConfig())), "ephemeral": strconv.FormatBool(i.Ephemeral),
	}}
	// The disk holds the guest's own ids, or those of the map that was written to it.
	onDisk, err := idmap.Parse(i.Config[volDiskMap])
	if err != nil {
		return err
	}
	if uid, ok := onDisk.HostUID(0); ok && !onDisk.Empty() {
		g.UID = int(uid)
	}
	if gid, ok := onDisk.HostGID(0); ok && !onDisk.Empty() {
		g.GID = int(gid)
	}
	return v.Apply(ctx, st.s.Templates, g, triggers...)
}

// Volume makes the volume of an instance usable and returns its folder. release ends
// the use.
func (s *Service) Volume(ctx context.Context, i *Instance) (dir string, release func(), err error) {
	v, _, err := volume(i)
	if err != nil {
		return "", nil, err
	}
	s.liveOf(i.ID).touch()
	if dir, err = s.Storage.Mount(ctx, v); err != nil {
		return "", nil, err
	}
	return dir, func() {
		ctx, cancel := s.cleanup()
		defer cancel()
		if err := s.Storage.Unmount(ctx, v); err != nil {
			log.From(ctx).Warn("Could not let go of a volume", "instance", i.Name, "err", err)
		}
	}, nil
}

// Claim locks an instance against all others and then loads it.
func (s *Service) Claim(ctx context.Context, project, name, doing string) (*Instance, func(), error) {
	return s.claim(ctx, project, name, doing)
}

// newGuest reports whether a change makes the guest another one to cloud-init, which
// then begins from the start: its data or its network interfaces are others.
func newGuest(old, new *Instance) bool {
	for _, k := range config.Changed(old.ExpandedConfig(), new.ExpandedConfig()) {
		switch rest, _ := strings.CutPrefix(k, "user."); {
		case strings.HasPrefix(k, "cloud-init."):
			return true
		case rest != k && slices.Contains([]string{"user-data", "vendor-data", "network-config"}, rest):
			return true
		}
	}
	return !maps.Equal(interfaces(old), interfaces(new))
}

// interfaces are the names that devices give to network interfaces inside.
func interfaces(i *Instance) map[string]string {
	out := map[string]string{}
	for n, d := range i.ExpandedDevices() {
		if d["type"] != "nic" {
			continue
		}
		name := d["name"]
		if name == "" {
			name = i.Config[volatilePrefix+n+".name"]
		}
		out[n] = name
	}
	return out
}

// GuestID is how cloud-init knows the instance.
func (i *Instance) GuestID() string {
	if id := i.Config[volInstanceID]; id != "" {
		return id
	}
	return i.Name
}
