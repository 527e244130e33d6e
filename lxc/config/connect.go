package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sett/client"
	"sett/shared/errs"
	"sett/shared/i18n"
)

func (c *Config) remote(name string) (Remote, error) {
	r, ok := c.Remotes[name]
	if !ok {
		return r, fmt.Errorf(i18n.G("The remote \"%s\" doesn't exist"), name)
	}
	return r, nil
}

// InstanceServer connects to a remote that runs instances.
func (c *Config) InstanceServer(ctx context.Context, name string, args client.ConnectionArgs) (client.InstanceServer, error) {
	r, err := c.remote(name)
	if err != nil {
		return nil, err
	}
	if r.Public || r.Protocol == "simplestreams" {
		return nil, errors.New(i18n.G("The remote isn't a private LXD server"))
	}
	var s client.InstanceServer
	if path, ok := strings.CutPrefix(r.Addr, "unix:"); ok {
		if path = strings.TrimPrefix(path, "//"); path == "" {
			path = c.Socket
		}
		s, err = client.ConnectLXDUnixWithContext(ctx, path, &args)
	} else {
		if err := c.certificates(name, &args); err != nil {
			return nil, err
		}
		if args.TLSClientCert == "" {
			return nil, fmt.Errorf(i18n.G("There is no client certificate in %s; the remote \"%s\" has to be added again"), c.Dir, name)
		}
		s, err = client.ConnectLXDWithContext(ctx, r.Addr, &args)
	}
	if err != nil {
		return nil, err
	}
	project := c.Project
	if project == "" {
		project = r.Project
	}
	if project != "" && project != "default" {
		s = s.UseProject(project)
	}
	return s, nil
}

// ImageServer connects to a remote that has images.
func (c *Config) ImageServer(ctx context.Context, name string, args client.ConnectionArgs) (client.ImageServer, error) {
	r, err := c.remote(name)
	if err != nil {
		return nil, err
	}
	if r.Protocol == "simplestreams" {
		return nil, errs.NotImplemented(i18n.G("Remote \"%s\" speaks simplestreams, which is not implemented; import the image from a file with \"lxc image import\""), name)
	}
	if r.Public {
		if err := c.certificates(name, &args); err != nil {
			return nil, err
		}
		return client.ConnectPublicLXD(r.Addr, &args)
	}
	return c.InstanceServer(ctx, name, args)
}

// certificates adds what is stored about the client and a server.
func (c *Config) certificates(name string, args *client.ConnectionArgs) error {
	for file, to := range map[string]*string{
		"client.crt": &args.TLSClientCert,
		"client.key": &args.TLSClientKey,
		"client.ca":  &args.TLSCA,
		filepath.Join("servercerts", name+".crt"): &args.TLSServerCert,
	} {
		b, err := os.ReadFile(filepath.Join(c.Dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		*to = string(b)
	}
	return nil
}
