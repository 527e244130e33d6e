package cmd

import (
	"fmt"

	"sett/client"
	"sett/shared/api"
)

// dumpPreseed writes the set-up of the server so that --preseed takes it.
func (e *env) dumpPreseed(c client.InstanceServer) error {
	var p api.InitLocalPreseed
	s, _, err := c.GetServer()
	if err != nil {
		return err
	}
	p.Config = s.Config
	if p.Config == nil {
		p.Config = map[string]any{}
	}
	projects, err := c.GetProjects()
	if err != nil {
		return err
	}
	p.Networks, p.StoragePools = []api.InitNetworksProjectPost{}, []api.StoragePoolsPost{}
	p.Profiles, p.Projects = []api.ProfilesPost{}, []api.ProjectsPost{}
	for _, x := range projects {
		var post api.ProjectsPost
		post.Name, post.ProjectPut = x.Name, x.Writable()
		p.Projects = append(p.Projects, post)
		if x.Config["features.networks"] != "true" {
			continue
		}
		nets, err := managedNetworks(c.UseProject(x.Name))
		if err != nil {
			return err
		}
		for _, n := range nets {
			var post api.InitNetworksProjectPost
			post.Name, post.Type, post.NetworkPut, post.Project = n.Name, n.Type, n.Writable(), x.Name
			p.Networks = append(p.Networks, post)
		}
	}
	pools, err := c.GetStoragePools()
	if err != nil {
		return err
	}
	for _, x := range pools {
		var post api.StoragePoolsPost
		post.Name, post.Driver, post.StoragePoolPut = x.Name, x.Driver, x.Writable()
		p.StoragePools = append(p.StoragePools, post)
	}
	profiles, err := c.GetProfiles()
	if err != nil {
		return err
	}
	for _, x := range profiles {
		var post api.ProfilesPost
		post.Name, post.ProfilePut = x.Name, x.Writable()
		p.Profiles = append(p.Profiles, post)
	}
	if err := writeYAML(e.out, p); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.out)
	return err
}
