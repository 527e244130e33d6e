package instance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

type copying struct {
	*cli.App
	config       []string
	devices      []string
	profiles     []string
	noProfiles   bool
	ephemeral    bool
	instanceOnly bool
	stateless    bool
	inconsistent bool
	refresh      bool
	storage      string
	target       string
	mode         string
	project      string
}

// flags adds those that copy and move have in common.
func (c *copying) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&c.config, "config", "c", nil, i18n.G("Config key/value to apply to the target instance")+"``")
	f.StringArrayVarP(&c.devices, "device", "d", nil, i18n.G("New key/value to apply to a specific device")+"``")
	f.StringArrayVarP(&c.profiles, "profile", "p", nil, i18n.G("Profile to apply to the target instance")+"``")
	f.BoolVar(&c.noProfiles, "no-profiles", false, i18n.G("Leave the profiles of the source out"))
	f.BoolVar(&c.instanceOnly, "instance-only", false, i18n.G("Leave snapshots out"))
	f.BoolVar(&c.stateless, "stateless", false, i18n.G("Leave the state of processes out"))
	f.BoolVar(&c.inconsistent, "allow-inconsistent", false, i18n.G("Let an instance that runs go on while it is copied"))
	f.StringVarP(&c.storage, "storage", "s", "", i18n.G("Storage pool name")+"``")
	f.StringVar(&c.project, "target-project", "", i18n.G("Project of the target, if it is another one")+"``")
	f.StringVar(&c.mode, "mode", "pull", i18n.G("How data goes from one server to another: pull, push or relay; within a server it makes no difference")+"``")
}

// Copy builds "lxc copy".
func Copy(a *cli.App) *cobra.Command {
	c := &copying{App: a}
	cmd := cli.Command(cli.Help{
		Use:     "copy [<remote>:]<instance>[/<snapshot>] [<remote>:]<instance>",
		Aliases: []string{"cp"}, Short: i18n.G("Copy instances"),
		Long: i18n.G("The copy has the files, the configuration and the snapshots of the instance, and addresses of its own. An instance that runs stands still for as long as it takes to copy it consistently, which is no time on btrfs.\n\n" +
			"With --refresh, a copy that is there already gets the files, the snapshots and the configuration that the source has now."),
		Example: "lxc copy c1 c2\nlxc copy c1/before-upgrade c3 --storage fast\nlxc copy c1 backup --refresh\nlxc copy c1 c4 -c limits.memory=1GiB -d root,size=20GiB",
	}, 1, 2, c.run)
	c.flags(cmd)
	cmd.Flags().BoolVarP(&c.ephemeral, "ephemeral", "e", false, i18n.G("Delete the copy when it stops"))
	cmd.Flags().BoolVar(&c.refresh, "refresh", false, i18n.G("Bring a copy up to date that is there already"))
	c.targetFlag(cmd)
	return cmd
}

func (c *copying) targetFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.target, "target", "", i18n.G("Cluster member name")+"``")
}

// checkMode refuses what is no mode.
func (c *copying) checkMode() error {
	if !slices.Contains([]string{"pull", "push", "relay"}, c.mode) {
		return fmt.Errorf(i18n.G("Unknown mode %q, there are pull, push and relay"), c.mode)
	}
	return nil
}

func (c *copying) run(cmd *cobra.Command, args []string) error {
	if err := c.checkMode(); err != nil {
		return err
	}
	src, err := c.Named(cmd, args[0], i18n.G("You must specify a source instance name"))
	if err != nil {
		return err
	}
	inst, snap, isSnap := strings.Cut(src.Name, "/")
	switch {
	case isSnap && c.instanceOnly:
		return errors.New(i18n.G("--instance-only can't be passed when the source is a snapshot"))
	case isSnap && c.refresh:
		return errors.New(i18n.G("--refresh can only be used with instances"))
	case c.refresh && c.noProfiles:
		return errors.New(i18n.G("--no-profiles cannot be used with --refresh"))
	case c.noProfiles && len(c.profiles) > 0:
		return errors.New(i18n.G("--no-profiles cannot be used with --profile"))
	}
	dst, err := c.Resource(cmd, c.destination(src, args))
	if err != nil {
		return err
	}
	if dst.Name == "" {
		dst.Name = inst
	}
	if c.project != "" {
		dst.Server = dst.Server.UseProject(c.project)
	}
	if c.target != "" {
		if err := dst.MemberTarget(); err != nil {
			return err
		}
	}
	if isSnap {
		return c.fromSnapshot(src.Server, dst, inst, snap)
	}
	return c.fromInstance(src.Server, dst, inst)
}

// destination is the second argument; without it the copy goes to the server of the source.
func (c *copying) destination(src cli.Resource, args []string) string {
	if len(args) > 1 {
		if strings.Contains(args[1], ":") {
			return args[1]
		}
		return src.Remote + ":" + args[1]
	}
	return src.Remote + ":"
}

// place is the server, which in a cluster is the member that has the source, unless
// another one was asked for.
func (c *copying) place(s client.InstanceServer, location string) client.InstanceServer {
	switch {
	case c.target != "":
		return s.UseTarget(c.target)
	case location != "" && location != "none" && s.IsClustered():
		return s.UseTarget(location)
	}
	return s
}

func (c *copying) fromSnapshot(s client.InstanceServer, dst cli.Resource, inst, snap string) error {
	entry, _, err := s.GetInstanceSnapshot(inst, snap)
	if err != nil {
		return err
	}
	parent, _, err := s.GetInstance(inst)
	if err != nil {
		return err
	}
	if entry.Profiles == nil {
		entry.Profiles = parent.Profiles
	}
	put := api.InstancePut{Config: entry.Config, Devices: entry.Devices, Profiles: entry.Profiles}
	if err := c.override(dst.Server, &put, entry.ExpandedDevices); err != nil {
		return err
	}
	entry.Config, entry.Devices, entry.Profiles, entry.Ephemeral = put.Config, put.Devices, put.Profiles, c.ephemeral
	return c.wait(c.place(dst.Server, parent.Location).CopyInstanceSnapshot(s, inst, *entry, &client.InstanceSnapshotCopyArgs{Name: dst.Name, Live: !c.stateless}))
}

func (c *copying) fromInstance(s client.InstanceServer, dst cli.Resource, inst string) error {
	entry, _, err := s.GetInstance(inst)
	if err != nil {
		return err
	}
	put := entry.Writable()
	if err := c.override(dst.Server, &put, entry.ExpandedDevices); err != nil {
		return err
	}
	put.Ephemeral = c.ephemeral
	entry.InstancePut = put
	args := client.InstanceCopyArgs{Name: dst.Name, Live: !c.stateless && !c.refresh, InstanceOnly: c.instanceOnly, Refresh: c.refresh, AllowInconsistent: c.inconsistent}
	if err := c.wait(c.place(dst.Server, entry.Location).CopyInstance(s, *entry, &args)); err != nil || !c.refresh {
		return err
	}
	return c.follow(dst, put)
}

// follow gives a copy that has been refreshed the configuration of its source. What is
// its own stays: what the server has noted of it, and its pool.
func (c *copying) follow(dst cli.Resource, put api.InstancePut) error {
	now, etag, err := dst.Server.GetInstance(dst.Name)
	if err != nil {
		return err
	}
	config := maps.Clone(now.Config)
	maps.DeleteFunc(config, func(k, _ string) bool { return !strings.HasPrefix(k, "volatile.") })
	for k, v := range put.Config {
		if !strings.HasPrefix(k, "volatile.") {
			config[k] = v
		}
	}
	put.Config = config
	name, root := rootOf(now.ExpandedDevices)
	_, kept := now.Devices[name]
	if wanted, _ := rootOf(put.Devices); wanted == name && root != nil {
		put.Devices[name]["pool"] = root["pool"]
	} else if wanted == "" && kept {
		put.Devices[name] = root
	}
	return c.Wait(dst.Server.UpdateInstance(dst.Name, put, etag))
}

// rootOf finds the root disk.
func rootOf(devices map[string]map[string]string) (string, map[string]string) {
	for n, d := range devices {
		if d["type"] == "disk" && d["path"] == "/" && d["pool"] != "" {
			return n, d
		}
	}
	return "", nil
}

// override puts what the flags say over what the source says; expanded is what it says
// with its profiles.
func (c *copying) override(s client.InstanceServer, put *api.InstancePut, expanded map[string]map[string]string) error {
	put.Config, put.Devices = maps.Clone(put.Config), maps.Clone(put.Devices)
	if put.Config == nil {
		put.Config = map[string]string{}
	}
	if put.Devices == nil {
		put.Devices = map[string]map[string]string{}
	}
	maps.DeleteFunc(put.Config, func(k, _ string) bool { return strings.HasPrefix(k, "volatile.") && k != "volatile.base_image" })
	for _, kv := range c.config {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return fmt.Errorf(i18n.G("Bad key=value pair: %s"), kv)
		}
		put.Config[k] = v
	}
	switch {
	case c.noProfiles:
		put.Profiles = []string{}
	case len(c.profiles) > 0:
		put.Profiles = c.profiles
	}
	overrides, err := parseDevices(c.devices)
	if err != nil {
		return err
	}
	if len(overrides) == 0 && c.storage == "" {
		return nil
	}
	if c.noProfiles || len(c.profiles) > 0 {
		if expanded, err = profileDevices(s, put.Profiles); err != nil {
			return err
		}
		maps.Copy(expanded, put.Devices)
	}
	change := func(name string, keys map[string]string) {
		d := maps.Clone(put.Devices[name])
		if d == nil {
			d = maps.Clone(expanded[name])
		}
		if d == nil {
			d = map[string]string{}
		}
		maps.Copy(d, keys)
		put.Devices[name] = d
	}
	for name, keys := range overrides {
		change(name, keys)
	}
	if c.storage != "" {
		name, _ := rootOf(expanded)
		if name == "" {
			name = "root"
		}
		change(name, map[string]string{"type": "disk", "path": "/", "pool": c.storage})
	}
	return nil
}

// wait shows the progress of a copy until it ends.
func (c *copying) wait(op client.RemoteOperation, err error) error {
	if err != nil {
		return err
	}
	return c.Follow(cli.Remote(op), i18n.G("Transferring instance: %s"))
}
