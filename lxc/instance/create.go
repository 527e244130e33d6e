package instance

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v2"

	"sett/client"
	"sett/lxc/cli"
	"sett/lxc/image"
	"sett/shared/api"
	"sett/shared/i18n"
)

type create struct {
	*cli.App
	config     []string
	devices    []string
	profiles   []string
	noProfiles bool
	ephemeral  bool
	empty      bool
	network    string
	storage    string
	size       string
}

func (c *create) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&c.config, "config", "c", nil, i18n.G("Config key/value to apply to the new instance")+"``")
	f.StringArrayVarP(&c.devices, "device", "d", nil, i18n.G("New key/value to apply to a specific device")+"``")
	f.StringArrayVarP(&c.profiles, "profile", "p", nil, i18n.G("Profile to apply to the new instance")+"``")
	f.BoolVar(&c.noProfiles, "no-profiles", false, i18n.G("Create the instance with no profiles applied"))
	f.BoolVarP(&c.ephemeral, "ephemeral", "e", false, i18n.G("Delete the instance when it stops"))
	f.BoolVar(&c.empty, "empty", false, i18n.G("Create an empty instance"))
	f.StringVarP(&c.network, "network", "n", "", i18n.G("Network name")+"``")
	f.StringVarP(&c.storage, "storage", "s", "", i18n.G("Storage pool name")+"``")
	f.StringVarP(&c.size, "type", "t", "", i18n.G("Instance type")+"``")
	cli.Target(cmd)
	cli.Later(cmd, "vm")
}

// Init builds "lxc init".
func Init(a *cli.App) *cobra.Command {
	c := &create{App: a}
	cmd := cli.Command(cli.Help{
		Use: "init [<remote>:]<image> [<remote>:][<name>]", Hidden: true, Aliases: []string{"create"},
		Short:   i18n.G("Create instances from images"),
		Long:    i18n.G("YAML on stdin is the start of the instance's configuration."),
		Example: "lxc init debian c1 -c limits.memory=1GiB\nlxc init debian c2 < c2.yaml",
	}, 0, 2, func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && !c.empty {
			return cli.Usage(cmd)
		}
		_, _, err := c.run(cmd, args)
		return err
	})
	c.flags(cmd)
	return cmd
}

// Launch builds "lxc launch".
func Launch(a *cli.App) *cobra.Command {
	c := &create{App: a}
	var console consoleFlag
	var wait waitFlag
	cmd := cli.Command(cli.Help{
		Use: "launch [<remote>:]<image> [<remote>:][<name>]", Short: i18n.G("Create and start instances from images"),
		Long:    i18n.G("YAML on stdin is the start of the instance's configuration."),
		Example: "lxc launch debian c1 --wait=ready\nlxc launch debian c2 --ephemeral -c limits.cpu=2 -d root,size=20GiB",
	}, 1, 2, func(cmd *cobra.Command, args []string) error {
		if err := errors.Join(console.check(), wait.check()); err != nil {
			return err
		}
		r, name, err := c.run(cmd, args)
		if err != nil {
			return err
		}
		c.Say(i18n.G("Starting %s"), name)
		r.Name = name
		if err := changeState(a, r, name, api.InstanceStatePut{Action: "start", Timeout: -1}); err != nil {
			return err
		}
		if err := wait.wait(cmd.Context(), r, name); err != nil {
			return err
		}
		return console.attach(cmd.Context(), a, r)
	})
	c.flags(cmd)
	console.add(cmd)
	wait.add(cmd)
	return cmd
}

// run makes the instance and returns where it is and its name.
func (c *create) run(cmd *cobra.Command, args []string) (cli.Resource, string, error) {
	imageArg, target, err := c.args(args)
	if err != nil {
		return cli.Resource{}, "", err
	}
	if !c.empty { // before anything is said of an instance that cannot be made
		if _, _, err := c.Conf.ParseRemote(imageArg); err != nil {
			return cli.Resource{}, "", err
		}
	}
	r, err := c.Resource(cmd, target)
	if err != nil {
		return r, "", err
	}
	if r.Name == "" {
		c.Say("%s", i18n.G("Creating the instance"))
	} else {
		c.Say(i18n.G("Creating %s"), r.Name)
	}
	req, err := c.request(r)
	if err != nil {
		return r, "", err
	}
	if err := c.addDevices(r.Server, &req); err != nil {
		return r, "", err
	}
	op, err := c.start(cmd, r, imageArg, req)
	if err != nil {
		return r, "", err
	}
	name, err := instanceName(op)
	if err != nil {
		return r, "", err
	}
	if r.Name == "" {
		c.Printf(i18n.G("Instance name is: %s")+"\n", name) // also with --quiet, for scripts
	}
	return r, name, c.checkNetwork(r.Server, name)
}

// args parts the arguments into the image and the new instance.
func (c *create) args(args []string) (imageArg, target string, err error) {
	if c.empty {
		if len(args) > 1 {
			return "", "", errors.New(i18n.G("--empty cannot be combined with an image name"))
		}
		return "", cli.OptionalArg(args, 0), nil
	}
	imageArg, target = args[0], cli.OptionalArg(args, 1)
	return imageArg, target, nil
}

// request builds what does not need the server: stdin, then the flags.
func (c *create) request(r cli.Resource) (api.InstancesPost, error) {
	var req api.InstancesPost
	b, piped, err := c.Piped()
	if err != nil {
		return req, err
	}
	if piped {
		if err := yaml.Unmarshal(b, &req.InstancePut); err != nil {
			return req, err
		}
	}
	req.Name, req.InstanceType = r.Name, c.size
	if c.ephemeral {
		req.Ephemeral = true
	}
	switch {
	case c.noProfiles && len(c.profiles) > 0:
		return req, errors.New(i18n.G("--no-profiles cannot be used with --profile"))
	case c.noProfiles:
		req.Profiles = []string{}
	case len(c.profiles) > 0:
		req.Profiles = c.profiles
	}
	if req.Config == nil {
		req.Config = map[string]string{}
	}
	if req.Devices == nil {
		req.Devices = map[string]map[string]string{}
	}
	for _, kv := range c.config {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return req, fmt.Errorf(i18n.G("Bad key=value pair: %s"), kv)
		}
		req.Config[k] = v
	}
	return req, nil
}

// addDevices adds what --network, --storage and --device ask for.
func (c *create) addDevices(s client.InstanceServer, req *api.InstancesPost) error {
	if c.network != "" {
		n, _, err := s.GetNetwork(c.network)
		if err != nil {
			return fmt.Errorf(i18n.G("Failed loading network %q: %w"), c.network, err)
		}
		d := map[string]string{"name": "eth0", "type": "nic"}
		switch {
		case n.Managed:
			d["network"] = n.Name
		case n.Type == "bridge":
			d["nictype"], d["parent"] = "bridged", n.Name
		default:
			d["nictype"], d["parent"] = "macvlan", n.Name
		}
		req.Devices["eth0"] = d
	}
	if c.storage != "" {
		if _, _, err := s.GetStoragePool(c.storage); err != nil {
			return fmt.Errorf(i18n.G("Failed loading storage pool %q: %w"), c.storage, err)
		}
		req.Devices["root"] = map[string]string{"type": "disk", "path": "/", "pool": c.storage}
	}
	overrides, err := parseDevices(c.devices)
	if err != nil {
		return err
	}
	var inherited map[string]map[string]string
	for name, keys := range overrides {
		d, ok := req.Devices[name]
		if !ok {
			if inherited == nil {
				if inherited, err = profileDevices(s, req.Profiles); err != nil {
					return err
				}
			}
			d = maps.Clone(inherited[name])
		}
		if d == nil {
			d = map[string]string{}
		}
		maps.Copy(d, keys)
		req.Devices[name] = d
	}
	return nil
}

// parseDevices reads "name,key=value[,key=value...]".
func parseDevices(args []string) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, arg := range args {
		name, rest, ok := strings.Cut(arg, ",")
		if !ok {
			return nil, fmt.Errorf(i18n.G("Bad device override syntax, expecting <device>,<key>=<value>: %s"), arg)
		}
		if out[name] == nil {
			out[name] = map[string]string{}
		}
		for kv := range strings.SplitSeq(rest, ",") {
			k, v, ok := strings.Cut(kv, "=")
			if !ok {
				return nil, fmt.Errorf(i18n.G("Bad device override syntax, expecting <device>,<key>=<value>: %s"), arg)
			}
			out[name][k] = v
		}
	}
	return out, nil
}

// profileDevices merges the devices of the profiles that the instance will have.
func profileDevices(s client.InstanceServer, profiles []string) (map[string]map[string]string, error) {
	if profiles == nil {
		profiles = []string{"default"}
	}
	out := map[string]map[string]string{}
	for _, name := range profiles {
		p, _, err := s.GetProfile(name)
		if err != nil {
			return nil, fmt.Errorf(i18n.G("Failed loading profile %q for device override: %w"), name, err)
		}
		maps.Copy(out, p.Devices)
	}
	return out, nil
}

// start asks for the instance and waits until it is there.
func (c *create) start(cmd *cobra.Command, r cli.Resource, imageArg string, req api.InstancesPost) (*api.Operation, error) {
	title := i18n.G("Retrieving image: %s")
	if c.empty {
		req.Source.Type = "none"
		op, err := r.Server.CreateInstance(req)
		if err != nil {
			return nil, err
		}
		if err := c.Follow(op, title); err != nil {
			return nil, err
		}
		last := op.Get()
		return &last, nil
	}
	remote, name, err := c.Conf.ParseRemote(imageArg)
	if err != nil {
		return nil, err
	}
	s, err := c.ImageServer(cmd.Context(), remote)
	if err != nil {
		return nil, err
	}
	fp, err := image.Fingerprint(s, name, "")
	if err != nil {
		return nil, err
	}
	img, _, err := s.GetImage(fp)
	if err != nil {
		return nil, err
	}
	req.Type = api.InstanceType(img.Type)
	op, err := r.Server.CreateInstanceFromImage(s, *img, req)
	if err != nil {
		return nil, err
	}
	if err := c.Follow(cli.Remote(op), title); err != nil {
		return nil, err
	}
	return op.GetTarget()
}

// instanceName reads the name, which the server may have made up.
func instanceName(op *api.Operation) (string, error) {
	for _, key := range []string{"instances", "containers"} {
		if urls := op.Resources[key]; len(urls) == 1 {
			return path.Base(urls[0]), nil
		}
	}
	return "", errors.New(i18n.G("Failed to get the new instance name"))
}

// checkNetwork hints at a forgotten network.
func (c *create) checkNetwork(s client.InstanceServer, name string) error {
	inst, _, err := s.GetInstance(name)
	if err != nil {
		return err
	}
	for _, d := range inst.ExpandedDevices {
		if d["type"] == "nic" {
			return nil
		}
	}
	_, _ = fmt.Fprintf(c.Err, "\n%s\n  %s\n  %s\n\n",
		i18n.G("The instance you are starting doesn't have any network attached to it."),
		i18n.G("To create a new network, use: lxc network create"),
		i18n.G("To attach a network to an instance, use: lxc network attach"))
	return nil
}
