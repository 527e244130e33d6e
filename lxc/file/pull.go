package file

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/i18n"
)

type pull struct {
	*cli.App
	folders, recursive bool
	snapshot           string
}

func pullCommand(a *cli.App) *cobra.Command {
	c := &pull{App: a}
	cmd := cli.Command(cli.Help{
		Use: "pull [<remote>:]<instance>/<path> [[<remote>:]<instance>/<path>...] <target path>", Short: i18n.G("Pull files from instances"),
		Long:    i18n.G("A target of - is the standard output. Symbolic links are followed, with\n--recursive they are pulled as links."),
		Example: "lxc file pull c1/etc/hosts .\nlxc file pull -r c1/etc backup\nlxc file pull --snapshot snap0 c1/etc/hosts .",
	}, 2, -1, c.run)
	cmd.Flags().BoolVarP(&c.folders, "create-dirs", "p", false, i18n.G("Create any directories necessary"))
	cmd.Flags().BoolVarP(&c.recursive, "recursive", "r", false, i18n.G("Recursively transfer files"))
	cmd.Flags().StringVar(&c.snapshot, "snapshot", "", i18n.G("Pull from this snapshot of the instance")+"``")
	return cmd
}

func (c *pull) run(cmd *cobra.Command, args []string) error {
	last := args[len(args)-1]
	sources := args[:len(args)-1]
	target := filepath.Clean(last)
	isDir := false
	switch fi, err := os.Stat(target); {
	case err == nil:
		isDir = fi.IsDir()
		if !isDir && len(sources) > 1 {
			return errors.New(i18n.G("More than one file to download, but target is not a directory"))
		}
	case !os.IsNotExist(err):
		return err
	case strings.HasSuffix(last, string(os.PathSeparator)) || len(sources) > 1 && target != "-":
		if err := os.MkdirAll(target, folderMode); err != nil {
			return err
		}
		isDir = true
	case c.folders:
		if err := os.MkdirAll(filepath.Dir(target), folderMode); err != nil {
			return err
		}
	}
	from, err := places(c.App, cmd, sources, i18n.G("Invalid source %s"))
	if err != nil {
		return err
	}
	for _, p := range from {
		if c.snapshot != "" {
			p.Name += "/" + c.snapshot
		}
		if err := c.one(p, target, isDir); err != nil {
			return err
		}
	}
	return nil
}

func (c *pull) one(p place, target string, isDir bool) error {
	content, resp, err := open(p)
	if err != nil {
		return err
	}
	if resp.Type == "directory" {
		if !c.recursive {
			return errors.New(i18n.G("Can't pull a directory without --recursive"))
		}
		if target == "-" {
			return errors.New(i18n.G("A directory cannot be written to the standard output"))
		}
		if err := os.MkdirAll(target, folderMode); err != nil {
			return err
		}
		root, err := os.OpenRoot(target)
		if err != nil {
			return err
		}
		defer func() { _ = root.Close() }()
		name := path.Base(p.path)
		if name == "/" {
			name = path.Base(p.Name)
		}
		return c.tree(root, name, p, resp)
	}
	defer func() { _ = content.Close() }()
	name := target
	if isDir {
		name = filepath.Join(target, path.Base(p.path))
	}
	progress := c.Progress(fmt.Sprintf(i18n.G("Pulling %s from %s: %%s"), strings.ReplaceAll(p.path, "%", "%%"), p.Name))
	defer progress.Done("")
	if name == "-" {
		_, err := io.Copy(c.Out, content)
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return fill(f, content, resp.Mode, progress)
}

// fill writes a file and gives it its permissions; those of set-id bits stay behind.
func fill(f *os.File, content io.Reader, mode int, progress *cli.Progress) error {
	_, err := io.Copy(f, &counter{r: content, p: progress})
	if fi, serr := f.Stat(); err == nil && serr == nil && fi.Mode().IsRegular() {
		err = f.Chmod(os.FileMode(mode) & os.ModePerm)
	}
	return errors.Join(err, f.Close())
}

// open opens what a place is, and what its links lead to.
func open(p place) (io.ReadCloser, *client.InstanceFileResponse, error) {
	for range 40 {
		content, resp, err := p.Server.GetInstanceFile(p.Name, p.path)
		if err != nil || resp.Type != "symlink" {
			return content, resp, err
		}
		b, err := io.ReadAll(io.LimitReader(content, 8192))
		_ = content.Close()
		if err != nil {
			return nil, nil, err
		}
		to := strings.TrimSuffix(string(b), "\n")
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(p.path), to)
		}
		p.path = path.Clean(to)
	}
	return nil, nil, fmt.Errorf(i18n.G("Too many levels of symbolic links: %s"), p)
}

// tree writes what was opened below root, which nothing in the instance leads out of:
// not its links, not links that an earlier pull has brought, not names.
func (c *pull) tree(root *os.Root, name string, p place, resp *client.InstanceFileResponse) error {
	if err := root.Mkdir(name, 0o700); err != nil {
		fi, lerr := root.Lstat(name)
		if lerr != nil || !fi.IsDir() {
			return err
		}
	}
	for _, e := range resp.Entries {
		if e == "" || e == "." || e == ".." || strings.ContainsAny(e, "/\x00"+string(os.PathSeparator)) {
			return fmt.Errorf(i18n.G("The server lists a file of the name %q"), e)
		}
		sub := p
		sub.path = path.Join(p.path, e)
		content, resp, err := p.Server.GetInstanceFile(p.Name, sub.path)
		if err != nil {
			return err
		}
		at := filepath.Join(name, e)
		switch resp.Type {
		case "directory":
			err = c.tree(root, at, sub, resp)
		case "symlink":
			var b []byte
			if b, err = io.ReadAll(io.LimitReader(content, 8192)); err == nil {
				if err = free(root, at, true); err == nil {
					err = root.Symlink(strings.TrimSpace(string(b)), at)
				}
			}
		case "file":
			if err = free(root, at, false); err != nil {
				break
			}
			var f *os.File
			if f, err = root.OpenFile(at, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
				break
			}
			progress := c.Progress(fmt.Sprintf(i18n.G("Pulling %s from %s: %%s"), strings.ReplaceAll(sub.path, "%", "%%"), p.Name))
			err = fill(f, content, resp.Mode, progress)
			progress.Done("")
		default:
			err = fmt.Errorf(i18n.G("Unknown file type '%s'"), resp.Type)
		}
		if content != nil {
			_ = content.Close()
		}
		if err != nil {
			return err
		}
	}
	return root.Chmod(name, os.FileMode(resp.Mode)&os.ModePerm)
}

// free takes a link out of the way, which would be followed otherwise, and for a new
// link files too.
func free(root *os.Root, name string, files bool) error {
	fi, err := root.Lstat(name)
	if err == nil && (fi.Mode()&os.ModeSymlink != 0 || files && !fi.IsDir()) {
		return root.Remove(name)
	}
	return nil
}
