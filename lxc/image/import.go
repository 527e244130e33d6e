package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

func (i image) importCmd() *cobra.Command {
	var public bool
	var aliases []string
	cmd := cli.Command(cli.Help{
		Use: "import <tarball>|<directory>|<URL> [<rootfs tarball>] [<remote>:] [key=value...]", Short: i18n.G("Import images into the image store"),
		Long:    i18n.G("An image is one file, or a tarball of metadata and a second file that holds the\nroot file system (a tarball or squashfs), or a directory with metadata.yaml and rootfs."),
		Example: "lxc image import debian.tar.xz --alias debian\nlxc image import lxd.tar.xz rootfs.squashfs --alias debian os=debian",
	}, 1, -1, func(cmd *cobra.Command, args []string) error {
		p, err := parseImport(args)
		if err != nil {
			return err
		}
		r, err := i.Resource(cmd, p.remote)
		if err != nil {
			return err
		}
		var req api.ImagesPost
		req.Public, req.Properties = public, p.properties
		op, err := i.upload(cmd.Context(), r, req, p)
		if err != nil {
			return err
		}
		fp, ok := op.Get().Metadata["fingerprint"].(string)
		if !ok {
			return errors.New(i18n.G("Bad fingerprint"))
		}
		i.Say(i18n.G("Image imported with fingerprint: %s"), fp)
		return MoveAliases(r.Server, aliases, fp)
	})
	cmd.Flags().BoolVar(&public, "public", false, i18n.G("Make image public"))
	cmd.Flags().StringArrayVar(&aliases, "alias", nil, i18n.G("New aliases to add to the image")+"``")
	return cmd
}

type importArgs struct {
	remote, file, rootfs string
	properties           map[string]string
}

// parseImport tells files, the remote and properties apart: what holds "=" and is
// no file is a property, what ends with ":" is the remote.
func parseImport(args []string) (importArgs, error) {
	p := importArgs{properties: map[string]string{}}
	for _, arg := range args {
		k, v, pair := strings.Cut(arg, "=")
		_, err := os.Stat(arg)
		switch {
		case pair && err != nil && !isURL(arg):
			p.properties[k] = v
		case strings.HasSuffix(arg, ":"):
			p.remote = arg
		case p.file == "":
			p.file = arg
		default:
			p.rootfs = arg
		}
	}
	if p.file == "" {
		p.file, p.rootfs = p.rootfs, ""
	}
	if p.file == "" {
		return p, errors.New(i18n.G("No image file was given"))
	}
	return p, nil
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

func (i image) upload(ctx context.Context, r cli.Resource, req api.ImagesPost, p importArgs) (client.Operation, error) {
	title := i18n.G("Transferring image: %s")
	progress := i.Progress(title)
	defer progress.Done("")
	if isURL(p.file) {
		if strings.HasPrefix(p.file, "http://") {
			return nil, errors.New(i18n.G("Only https:// is supported for remote image import"))
		}
		req.Source = &api.ImagesPostSource{Type: "url", Mode: "pull", URL: p.file}
		req.Source.Protocol = "direct"
		op, err := r.Server.CreateImage(req, nil)
		if err != nil {
			return nil, err
		}
		return op, i.Follow(op, title)
	}
	args := &client.ImageCreateArgs{MetaName: filepath.Base(p.file), ProgressHandler: progress.UpdateTransfer}
	if st, err := os.Stat(p.file); err == nil && st.IsDir() {
		if p.rootfs != "" {
			return nil, errors.New(i18n.G("A directory is a whole image; it takes no second file"))
		}
		dir, err := openFolder(ctx, p.file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = dir.Close() }()
		args.MetaFile, args.MetaName = dir, args.MetaName+".tar.gz"
	} else {
		meta, err := os.Open(p.file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = meta.Close() }()
		args.MetaFile = meta
	}
	if p.rootfs != "" {
		rootfs, err := os.Open(p.rootfs)
		if err != nil {
			return nil, err
		}
		defer func() { _ = rootfs.Close() }()
		args.RootfsFile, args.RootfsName, args.Type = rootfs, filepath.Base(p.rootfs), "container"
	}
	req.Filename = args.MetaName
	op, err := r.Server.CreateImage(req, args)
	if err != nil {
		return nil, err
	}
	return op, i.Await(op)
}

// MoveAliases makes the aliases point at an image, wherever they pointed before.
func MoveAliases(s client.InstanceServer, aliases []string, fingerprint string) error {
	for _, name := range aliases {
		if _, _, err := s.GetImageAlias(name); err == nil {
			if err := s.DeleteImageAlias(name); err != nil {
				return err
			}
		}
		var req api.ImageAliasesPost
		req.Name, req.Target = name, fingerprint
		if err := s.CreateImageAlias(req); err != nil {
			return err
		}
	}
	return nil
}
