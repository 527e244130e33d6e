package image

import (
	"errors"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

const arg = "[<remote>:]<image>"

// Command builds "lxc image".
func Command(a *cli.App) *cobra.Command {
	i := image{a}
	return cli.Noun(cli.Help{
		Use: "image", Short: i18n.G("Manage images"),
		Long: i18n.G("Instances are made of images. An image is named by its fingerprint, the beginning\nof it, or by one of its aliases."),
	}, i.alias(), i.delete(), i.edit(), i.export(), i.importCmd(), i.info(), i.list(), i.show(),
		i.getProperty(), i.setProperty(), i.unsetProperty())
}

type image struct{ *cli.App }

func (i image) named(cmd *cobra.Command, arg string) (cli.Resource, error) {
	return i.Named(cmd, arg, i18n.G("Image identifier missing"))
}

// Fingerprint follows an alias; what is no alias is taken for a fingerprint.
func Fingerprint(s client.ImageServer, name, kind string) (string, error) {
	if name == "" {
		name = "default"
	}
	alias, _, err := s.GetImageAliasType(kind, name)
	if err == nil {
		return alias.Target, nil
	}
	var status api.StatusError
	if errors.As(err, &status) && status.Status() == 404 {
		return name, nil
	}
	return "", err
}

// look finds the server behind "[remote:]name" for those who only read: a public
// server will do.
func (i image) look(cmd *cobra.Command, arg string) (client.ImageServer, string, error) {
	remote, name, err := i.Conf.ParseRemote(arg)
	if err != nil {
		return nil, "", err
	}
	s, err := i.ImageServer(cmd.Context(), remote)
	return s, name, err
}

// read is find for those who change nothing.
func (i image) read(cmd *cobra.Command, arg string) (*api.Image, error) {
	s, name, err := i.look(cmd, arg)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, errors.New(i18n.G("Image identifier missing"))
	}
	fp, err := Fingerprint(s, name, "")
	if err != nil {
		return nil, err
	}
	img, _, err := s.GetImage(fp)
	return img, err
}

// find loads the image behind an argument.
func (i image) find(cmd *cobra.Command, arg string) (cli.Resource, *api.Image, string, error) {
	r, err := i.named(cmd, arg)
	if err != nil {
		return r, nil, "", err
	}
	fp, err := Fingerprint(r.Server, r.Name, "")
	if err != nil {
		return r, nil, "", err
	}
	img, etag, err := r.Server.GetImage(fp)
	return r, img, etag, err
}

func (i image) delete() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "delete " + arg + " [" + arg + "...]", Aliases: []string{"rm"}, Short: i18n.G("Delete images"), Example: "lxc image delete debian",
	}, 1, -1, func(cmd *cobra.Command, args []string) error {
		for _, arg := range args {
			r, err := i.named(cmd, arg)
			if err != nil {
				return err
			}
			fp, err := Fingerprint(r.Server, r.Name, "")
			if err != nil {
				return err
			}
			if err := i.Wait(r.Server.DeleteImage(fp)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (i image) show() *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use: "show " + arg, Short: i18n.G("Show image properties"), Example: "lxc image show debian",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		img, err := i.read(cmd, args[0])
		if err != nil {
			return err
		}
		return i.ShowYAML(img.Writable())
	})
	cli.Later(cmd, "vm")
	return cmd
}

func (i image) edit() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "edit " + arg, Short: i18n.G("Edit image properties"),
		Example: "lxc image edit debian\nlxc image edit debian < debian.yaml",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, img, etag, err := i.find(cmd, args[0])
		if err != nil {
			return err
		}
		help := i18n.G("This is what can be changed about the image, as YAML.\nLines that begin with # are skipped.\n\nA sample:\n\nauto_update: false\nproperties:\n  description: Debian bookworm amd64\npublic: false")
		return cli.EditYAML(i.App, cmd, help, img.Writable(), func(put api.ImagePut) error {
			return r.Server.UpdateImage(img.Fingerprint, put, etag)
		})
	})
}

func (i image) getProperty() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "get-property " + arg + " <key>", Short: i18n.G("Get image properties"), Example: "lxc image get-property debian os",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		img, err := i.read(cmd, args[0])
		if err != nil {
			return err
		}
		v, ok := img.Properties[args[1]]
		if !ok {
			return errors.New(i18n.G("Property not found"))
		}
		i.Println(v)
		return nil
	})
}

func (i image) changeProperties(cmd *cobra.Command, arg string, change func(map[string]string) bool) error {
	r, img, etag, err := i.find(cmd, arg)
	if err != nil {
		return err
	}
	put := img.Writable()
	if put.Properties == nil {
		put.Properties = map[string]string{}
	}
	if !change(put.Properties) {
		return nil
	}
	return r.Server.UpdateImage(img.Fingerprint, put, etag)
}

func (i image) setProperty() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "set-property " + arg + " <key> <value>", Short: i18n.G("Set image properties"),
		Example: "lxc image set-property debian description \"Debian for builds\"",
	}, 3, 3, func(cmd *cobra.Command, args []string) error {
		return i.changeProperties(cmd, args[0], func(p map[string]string) bool {
			p[args[1]] = args[2]
			return true
		})
	})
}

func (i image) unsetProperty() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "unset-property " + arg + " <key>", Short: i18n.G("Unset image properties"), Example: "lxc image unset-property debian note",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		return i.changeProperties(cmd, args[0], func(p map[string]string) bool {
			_, had := p[args[1]]
			delete(p, args[1])
			return had
		})
	})
}

func (i image) info() *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use: "info " + arg, Short: i18n.G("Show useful information about images"), Example: "lxc image info debian",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		img, err := i.read(cmd, args[0])
		if err != nil {
			return err
		}
		i.showInfo(img)
		return nil
	})
	cli.Later(cmd, "vm")
	return cmd
}

func (i image) showInfo(img *api.Image) {
	public, cached, auto := i18n.G("no"), i18n.G("no"), i18n.G("disabled")
	if img.Public {
		public = i18n.G("yes")
	}
	if img.Cached {
		cached = i18n.G("yes")
	}
	if img.AutoUpdate {
		auto = i18n.G("enabled")
	}
	kind := img.Type
	if kind == "" {
		kind = "container"
	}
	i.Printf(i18n.G("Fingerprint: %s\n"), img.Fingerprint)
	i.Printf(i18n.G("Size: %.2fMB\n"), float64(img.Size)/1024/1024)
	i.Printf(i18n.G("Architecture: %s\n"), img.Architecture)
	i.Printf(i18n.G("Type: %s\n"), kind)
	i.Printf(i18n.G("Public: %s\n"), public)
	i.Println(i18n.G("Timestamps:"))
	if at := cli.Stamp(img.CreatedAt); at != "" {
		i.Printf("    "+i18n.G("Created: %s\n"), at)
	}
	i.Printf("    "+i18n.G("Uploaded: %s\n"), cli.Stamp(img.UploadedAt))
	if at := cli.Stamp(img.ExpiresAt); at != "" {
		i.Printf("    "+i18n.G("Expires: %s\n"), at)
	} else {
		i.Println("    " + i18n.G("Expires: never"))
	}
	if at := cli.Stamp(img.LastUsedAt); at != "" {
		i.Printf("    "+i18n.G("Last used: %s\n"), at)
	} else {
		i.Println("    " + i18n.G("Last used: never"))
	}
	i.Println(i18n.G("Properties:"))
	for _, k := range slices.Sorted(maps.Keys(img.Properties)) {
		i.Printf("    %s: %s\n", k, img.Properties[k])
	}
	i.Println(i18n.G("Aliases:"))
	for _, a := range img.Aliases {
		if a.Description != "" {
			i.Printf("    - %s (%s)\n", a.Name, a.Description)
		} else {
			i.Printf("    - %s\n", a.Name)
		}
	}
	i.Printf(i18n.G("Cached: %s\n"), cached)
	i.Printf(i18n.G("Auto update: %s\n"), auto)
	if s := img.UpdateSource; s != nil {
		i.Println(i18n.G("Source:"))
		i.Printf("    "+i18n.G("Server: %s\n"), s.Server)
		i.Printf("    "+i18n.G("Protocol: %s\n"), s.Protocol)
		i.Printf("    "+i18n.G("Alias: %s\n"), s.Alias)
	}
	if len(img.Profiles) == 0 {
		i.Println(i18n.G("Profiles: ") + "[]")
		return
	}
	i.Println(i18n.G("Profiles:"))
	for _, p := range img.Profiles {
		i.Printf("    - %s\n", p)
	}
}
