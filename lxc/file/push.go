package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/i18n"
)

type push struct {
	*cli.App
	folders, recursive bool
	uid, gid           int
	mode               string
}

func pushCommand(a *cli.App) *cobra.Command {
	c := &push{App: a}
	cmd := cli.Command(cli.Help{
		Use: "push <source path>... [<remote>:]<instance>/<path>", Short: i18n.G("Push files into instances"),
		Long:    i18n.G("A source of - is the standard input. New files get the owner and mode of the source,\nexisting ones keep theirs."),
		Example: "lxc file push /etc/hosts c1/etc/hosts\necho hello | lxc file push - c1/root/greeting",
	}, 2, -1, c.run)
	f := cmd.Flags()
	f.BoolVarP(&c.folders, "create-dirs", "p", false, i18n.G("Create any directories necessary"))
	f.BoolVarP(&c.recursive, "recursive", "r", false, i18n.G("Recursively transfer files"))
	f.IntVar(&c.uid, "uid", -1, i18n.G("Set the file's uid on push")+"``")
	f.IntVar(&c.gid, "gid", -1, i18n.G("Set the file's gid on push")+"``")
	f.StringVar(&c.mode, "mode", "", i18n.G("Set the file's perms on push")+"``")
	return cmd
}

func (c *push) run(cmd *cobra.Command, args []string) error {
	to, err := places(c.App, cmd, args[len(args)-1:], i18n.G("Invalid target %s"))
	if err != nil {
		return err
	}
	target, sources := to[0], args[:len(args)-1]
	if c.recursive {
		return c.trees(sources, target)
	}
	mode := -1
	if c.mode != "" {
		n, err := strconv.ParseUint(c.mode, 8, 12)
		if err != nil {
			return fmt.Errorf(i18n.G("Invalid mode %q, it should look like 0644"), c.mode)
		}
		mode = int(n)
	}
	if len(sources) > 1 && !target.dir {
		return errors.New(i18n.G("Missing target directory"))
	}
	// All have to be readable before the first one goes out.
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for _, s := range sources {
		f := c.input(s)
		if f == nil {
			if f, err = os.Open(s); err != nil {
				return err
			}
		}
		files = append(files, f)
	}
	for i, f := range files {
		if err := c.one(f, sources[i], target, mode); err != nil {
			return err
		}
	}
	return nil
}

// input is the standard input where that is meant.
func (c *push) input(name string) *os.File {
	if name == "-" {
		f, _ := c.In.(*os.File)
		return f
	}
	return nil
}

func (c *push) one(f *os.File, name string, target place, mode int) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return fmt.Errorf(i18n.G("%s is a directory; use --recursive"), name)
	}
	to := target.path
	if target.dir {
		if name == "-" {
			return errors.New(i18n.G("Missing target file name"))
		}
		to = path.Join(to, filepath.Base(name))
	}
	args := client.InstanceFileArgs{UID: int64(c.uid), GID: int64(c.gid), Mode: mode, Type: "file"}
	m, uid, gid := ownerMode(fi)
	if args.Mode < 0 {
		args.Mode = m
	}
	if args.UID < 0 {
		args.UID = uid
	}
	if args.GID < 0 {
		args.GID = gid
	}
	if c.folders {
		if err := makeFolders(target, path.Dir(to), -1, args.UID, args.GID); err != nil {
			return err
		}
	}
	progress := c.Progress(fmt.Sprintf(i18n.G("Pushing %s to %s: %%s"), strings.ReplaceAll(name, "%", "%%"), strings.ReplaceAll(to, "%", "%%")))
	defer progress.Done("")
	args.Content = counted(f, progress)
	return target.Server.CreateInstanceFile(target.Name, to, args)
}

func (c *push) trees(sources []string, target place) error {
	if c.uid != -1 || c.gid != -1 || c.mode != "" {
		return errors.New(i18n.G("Can't supply uid/gid/mode in recursive mode"))
	}
	for _, s := range sources {
		fi, err := os.Stat(s)
		if err != nil {
			return err
		}
		if c.folders {
			mode, uid, gid := ownerMode(fi)
			if !fi.IsDir() {
				mode = 0o755
			}
			if err := makeFolders(target, target.path, mode, uid, gid); err != nil {
				return err
			}
		}
		if err := c.tree(filepath.Clean(s), target); err != nil {
			return err
		}
	}
	return nil
}

// tree pushes a folder under its own name below the target.
func (c *push) tree(source string, target place) error {
	top, _ := filepath.Split(source)
	return filepath.WalkDir(source, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf(i18n.G("Failed to walk path for %s: %w"), name, err)
		}
		fi, err := os.Lstat(name)
		if err != nil {
			return err
		}
		args := client.InstanceFileArgs{}
		args.Mode, args.UID, args.GID = ownerMode(fi)
		to := path.Join(target.path, filepath.ToSlash(name[len(top):]))
		switch {
		case fi.IsDir():
			args.Type = "directory"
		case fi.Mode()&os.ModeSymlink != 0:
			link, err := os.Readlink(name)
			if err != nil {
				return err
			}
			args.Type, args.Content = "symlink", strings.NewReader(link)
		case fi.Mode().IsRegular():
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			progress := c.Progress(fmt.Sprintf(i18n.G("Pushing %s to %s: %%s"), strings.ReplaceAll(name, "%", "%%"), strings.ReplaceAll(to, "%", "%%")))
			defer progress.Done("")
			args.Type, args.Content = "file", counted(f, progress)
		default:
			return fmt.Errorf(i18n.G("'%s' isn't a supported file type"), name)
		}
		return target.Server.CreateInstanceFile(target.Name, to, args)
	})
}
