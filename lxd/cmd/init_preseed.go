package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"

	"gopkg.in/yaml.v2"

	"sett/client"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/i18n"
	"sett/shared/undo"
)

// readPreseed reads the set-up from standard input. Keys that nobody knows are told
// and passed over: people paste what `lxc profile show` prints, with its used_by.
func (e *env) readPreseed(ctx context.Context) (*api.InitPreseed, error) {
	b, err := io.ReadAll(e.in)
	if err != nil {
		return nil, fmt.Errorf(i18n.G("read the preseed from standard input: %w"), err)
	}
	p := &api.InitPreseed{}
	if err := yaml.Unmarshal(b, p); err != nil {
		return nil, errs.Invalid(i18n.G("The preseed is not what init understands: %v"), err)
	}
	strict := yaml.NewDecoder(strings.NewReader(string(b)))
	strict.SetStrict(true)
	var unknown *yaml.TypeError
	if errors.As(strict.Decode(&api.InitPreseed{}), &unknown) {
		for _, text := range unknown.Errors {
			var line int
			var key string
			if _, err := fmt.Sscanf(text, "line %d: field %s not found", &line, &key); err == nil {
				fmt.Fprintf(e.err, i18n.G("Warning: the key %q in line %d of the preseed is unknown and was ignored")+"\n", key, line)
			}
		}
	}
	if p.Cluster == nil {
		return p, nil
	}
	if p.Cluster.ClusterToken != "" {
		p.Cluster.Enabled = true
	}
	name := p.Cluster.ServerName
	if err := resolveToken(ctx, p.Cluster); err != nil {
		return nil, err
	}
	if name != "" && name != p.Cluster.ServerName {
		// Files that were written for LXD may say so: there the token decides.
		fmt.Fprintf(e.err, i18n.G("Warning: the join token is for a server called %q, so it is not called %q")+"\n", p.Cluster.ServerName, name)
	}
	return p, nil
}

// preseeder applies a set-up object by object and knows the way back.
type preseeder struct {
	c    client.InstanceServer
	undo undo.Stack
}

// applyPreseed brings the server to what p says. Objects that are there are changed
// and keep what p does not mention; when one fails, all before it are taken back.
func applyPreseed(c client.InstanceServer, p *api.InitPreseed, talk io.Writer) error {
	if p.Cluster != nil && p.Cluster.Enabled && p.Cluster.ClusterAddress != "" {
		// The cluster has all the rest already.
		if err := applyCluster(c, p.Cluster); err != nil {
			return fmt.Errorf(i18n.G("Failed to join cluster: %w"), err)
		}
		return nil
	}
	if p.Cluster != nil && p.Cluster.Enabled && p.Cluster.ServerAddress != "" && p.Node.Config["core.https_address"] == nil {
		if p.Node.Config == nil {
			p.Node.Config = map[string]any{}
		}
		p.Node.Config["core.https_address"] = p.Cluster.ServerAddress
	}
	a := &preseeder{c: c}
	a.undo.OnError = func(err error) { fmt.Fprintln(talk, i18n.G("Warning: could not take a step back:"), err) }
	defer a.undo.Run()
	if err := a.server(p.Node.Config); err != nil {
		return fmt.Errorf(i18n.G("Failed to update the server's configuration: %w"), err)
	}
	for _, x := range p.Node.StoragePools {
		if err := a.pool(x); err != nil {
			return fmt.Errorf(i18n.G("Failed to set up storage pool %q: %w"), x.Name, err)
		}
	}
	// Projects stand before what is in them.
	for _, x := range p.Node.Projects {
		if err := a.project(x); err != nil {
			return fmt.Errorf(i18n.G("Failed to set up project %q: %w"), x.Name, err)
		}
	}
	for _, x := range p.Node.Networks {
		if err := a.network(x); err != nil {
			return fmt.Errorf(i18n.G("Failed to set up network %q: %w"), x.Name, err)
		}
	}
	for _, x := range p.Node.Profiles {
		if err := a.profile(x); err != nil {
			return fmt.Errorf(i18n.G("Failed to set up profile %q: %w"), x.Name, err)
		}
	}
	if err := applyCluster(c, p.Cluster); err != nil {
		return fmt.Errorf(i18n.G("Failed to enable clustering: %w"), err)
	}
	a.undo.Commit()
	return nil
}

func (a *preseeder) server(config map[string]any) error {
	if len(config) == 0 {
		return nil
	}
	now, etag, err := a.c.GetServer()
	if err != nil {
		return err
	}
	next := now.Writable()
	next.Config = maps.Clone(now.Config)
	if next.Config == nil {
		next.Config = map[string]any{}
	}
	for k, v := range config {
		next.Config[k] = fmt.Sprint(v)
	}
	if err := a.c.UpdateServer(next, etag); err != nil {
		return err
	}
	a.undo.Push(func() error { return a.c.UpdateServer(now.Writable(), "") })
	return nil
}

// merge lays the keys of more over have.
func merge(have, more map[string]string) map[string]string {
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, more)
	return out
}

// choose takes the new text when there is one.
func choose(have, more string) string {
	if more != "" {
		return more
	}
	return have
}

func missing(err error) bool {
	var s api.StatusError
	return errors.As(err, &s) && s.Status() == http.StatusNotFound
}

// existing is an object that init may find on the server.
type existing[T any] struct {
	get    func() (now T, etag string, err error)
	absent func(now T) bool // a thing of that name is there, but not made by us; may be nil
	create func() error
	remove func() error
	// change lays what the preseed says over what is there. It returns the way back,
	// nil when there was nothing to change.
	change func(now T, etag string) (back func() error, err error)
}

// ensure makes an object or changes the one that is there.
func ensure[T any](a *preseeder, x existing[T]) error {
	now, etag, err := x.get()
	if missing(err) || err == nil && x.absent != nil && x.absent(now) {
		if err := x.create(); err != nil {
			return err
		}
		a.undo.Push(x.remove)
		return nil
	}
	if err != nil {
		return err
	}
	back, err := x.change(now, etag)
	if err == nil && back != nil {
		a.undo.Push(back)
	}
	return err
}

func (a *preseeder) pool(x api.StoragePoolsPost) error {
	return ensure(a, existing[*api.StoragePool]{
		get:    func() (*api.StoragePool, string, error) { return a.c.GetStoragePool(x.Name) },
		create: func() error { return a.c.CreateStoragePool(x) },
		remove: func() error { return a.c.DeleteStoragePool(x.Name) },
		change: func(now *api.StoragePool, etag string) (func() error, error) {
			if x.Driver != "" && x.Driver != now.Driver {
				return nil, errs.Conflict(i18n.G("it is there with the driver %q instead of %q"), now.Driver, x.Driver)
			}
			next := now.Writable()
			next.Config = merge(now.Config, x.Config)
			next.Description = choose(now.Description, x.Description)
			if maps.Equal(next.Config, now.Config) && next.Description == now.Description {
				return nil, nil
			}
			return func() error { return a.c.UpdateStoragePool(x.Name, now.Writable(), "") }, a.c.UpdateStoragePool(x.Name, next, etag)
		},
	})
}

func (a *preseeder) network(x api.InitNetworksProjectPost) error {
	c := a.c
	if x.Project != "" && x.Project != "default" {
		c = c.UseProject(x.Project)
	}
	return ensure(a, existing[*api.Network]{
		get:    func() (*api.Network, string, error) { return c.GetNetwork(x.Name) },
		absent: func(now *api.Network) bool { return !now.Managed },
		create: func() error { return c.CreateNetwork(x.NetworksPost) },
		remove: func() error { return c.DeleteNetwork(x.Name) },
		change: func(now *api.Network, etag string) (func() error, error) {
			if x.Type != "" && x.Type != now.Type {
				return nil, errs.Conflict(i18n.G("it is there with the type %q instead of %q"), now.Type, x.Type)
			}
			next := now.Writable()
			next.Config = merge(now.Config, x.Config)
			for k, v := range x.Config {
				// "auto" asks for an address; one that is there is the answer.
				if v == "auto" && now.Config[k] != "" && now.Config[k] != "none" {
					next.Config[k] = now.Config[k]
				}
			}
			next.Description = choose(now.Description, x.Description)
			if maps.Equal(next.Config, now.Config) && next.Description == now.Description {
				return nil, nil
			}
			return func() error { return c.UpdateNetwork(x.Name, now.Writable(), "") }, c.UpdateNetwork(x.Name, next, etag)
		},
	})
}

func (a *preseeder) project(x api.ProjectsPost) error {
	return ensure(a, existing[*api.Project]{
		get:    func() (*api.Project, string, error) { return a.c.GetProject(x.Name) },
		create: func() error { return a.c.CreateProject(x) },
		remove: func() error { return a.c.DeleteProject(x.Name) },
		change: func(now *api.Project, etag string) (func() error, error) {
			next := now.Writable()
			next.Config = merge(now.Config, x.Config)
			next.Description = choose(now.Description, x.Description)
			if maps.Equal(next.Config, now.Config) && next.Description == now.Description {
				return nil, nil
			}
			return func() error { return a.c.UpdateProject(x.Name, now.Writable(), "") }, a.c.UpdateProject(x.Name, next, etag)
		},
	})
}

func (a *preseeder) profile(x api.ProfilesPost) error {
	return ensure(a, existing[*api.Profile]{
		get:    func() (*api.Profile, string, error) { return a.c.GetProfile(x.Name) },
		create: func() error { return a.c.CreateProfile(x) },
		remove: func() error { return a.c.DeleteProfile(x.Name) },
		change: func(now *api.Profile, etag string) (func() error, error) {
			next := now.Writable()
			next.Config = merge(now.Config, x.Config)
			next.Description = choose(now.Description, x.Description)
			next.Devices = maps.Clone(now.Devices)
			if next.Devices == nil {
				next.Devices = map[string]map[string]string{}
			}
			for name, d := range x.Devices {
				next.Devices[name] = merge(now.Devices[name], d)
			}
			return func() error { return a.c.UpdateProfile(x.Name, now.Writable(), "") }, a.c.UpdateProfile(x.Name, next, etag)
		},
	})
}
