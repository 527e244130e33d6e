package cmd

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"sett/client"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/i18n"
)

const defaultBridge = "lxdbr0"

// newPreseed is an empty set-up that touches the default profile only.
func newPreseed() *api.InitPreseed {
	p := &api.InitPreseed{}
	p.Node.Config = map[string]any{}
	p.Node.Networks = []api.InitNetworksProjectPost{}
	p.Node.StoragePools = []api.StoragePoolsPost{}
	p.Node.Projects = []api.ProjectsPost{}
	var prof api.ProfilesPost
	prof.Name = "default"
	prof.Config, prof.Devices = map[string]string{}, map[string]map[string]string{}
	p.Node.Profiles = []api.ProfilesPost{prof}
	return p
}

func addPool(p *api.InitPreseed, name, driver string, config map[string]string) {
	var pool api.StoragePoolsPost
	pool.Name, pool.Driver, pool.Config = name, driver, config
	p.Node.StoragePools = append(p.Node.StoragePools, pool)
	p.Node.Profiles[0].Devices["root"] = map[string]string{"type": "disk", "path": "/", "pool": name}
}

func addBridge(p *api.InitPreseed, name, kind string, config map[string]string) {
	var n api.InitNetworksProjectPost
	n.Name, n.Type, n.Config, n.Project = name, kind, config, "default"
	p.Node.Networks = append(p.Node.Networks, n)
	p.Node.Profiles[0].Devices["eth0"] = map[string]string{"type": "nic", "name": "eth0", "network": name}
}

// autoPreseed decides alone. It adds a pool and a bridge where there is none, so that
// a second run changes nothing.
func (e *env) autoPreseed(c client.InstanceServer, f initFlags) (*api.InitPreseed, error) {
	p := newPreseed()
	if f.address != "" {
		port := f.port
		if port == -1 {
			port = defaultPort
		}
		p.Node.Config["core.https_address"] = networkAddress(f.address, strconv.FormatInt(port, 10))
	}
	if f.trustPassword != "" {
		p.Node.Config["core.trust_password"] = f.trustPassword
	}
	pools, err := c.GetStoragePoolNames()
	if err != nil {
		return nil, fmt.Errorf(i18n.G("list the storage pools: %w"), err)
	}
	switch {
	case len(pools) == 0:
		if err := autoPool(c, p, f); err != nil {
			return nil, err
		}
	case f.backend != "" || f.device != "" || f.loop != -1 || f.pool != "":
		return nil, errs.Conflict(i18n.G("Storage has already been configured"))
	}
	managed, err := managedNetworks(c)
	if err != nil {
		return nil, err
	}
	if len(managed) == 0 {
		if e.taken(defaultBridge) {
			return nil, errs.Conflict(i18n.G("The interface %s is there and belongs to somebody else; make a network of another name by lxc network create, or through --preseed"), defaultBridge)
		}
		addBridge(p, defaultBridge, "bridge", map[string]string{"ipv4.address": "auto", "ipv6.address": "auto"})
	}
	// What the default profile has is the administrator's choice.
	have, _, err := c.GetProfile("default")
	if err != nil {
		return nil, err
	}
	for name := range p.Node.Profiles[0].Devices {
		if have.Devices[name] != nil {
			delete(p.Node.Profiles[0].Devices, name)
		}
	}
	return p, nil
}

func autoPool(c client.InstanceServer, p *api.InitPreseed, f initFlags) error {
	backend := f.backend
	if backend == "" {
		backend = "dir"
	}
	drivers, err := storageDrivers(c)
	if err != nil {
		return err
	}
	if !slices.Contains(drivers, backend) {
		return errs.Invalid(i18n.G("The storage backend %q cannot be used on this machine"), backend)
	}
	name := f.pool
	if name == "" {
		name = "default"
	}
	config := map[string]string{}
	switch {
	case f.device != "":
		config["source"] = f.device
	case f.loop != -1:
		config["size"] = strconv.FormatInt(f.loop, 10) + "GB"
	}
	addPool(p, name, backend, config)
	return nil
}

func storageDrivers(c client.InstanceServer) ([]string, error) {
	s, _, err := c.GetServer()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range s.Environment.StorageSupportedDrivers {
		out = append(out, d.Name)
	}
	slices.Sort(out)
	if len(out) == 0 {
		return nil, errors.New(i18n.G("The server knows no storage backend"))
	}
	return out, nil
}

func managedNetworks(c client.InstanceServer) ([]api.Network, error) {
	all, err := c.GetNetworks()
	if err != nil {
		return nil, fmt.Errorf(i18n.G("list the networks: %w"), err)
	}
	return slices.DeleteFunc(all, func(n api.Network) bool { return !n.Managed }), nil
}

// taken reports whether the host has an interface of that name.
func taken(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}
