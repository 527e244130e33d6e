package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

// keepOnServer is how long the server keeps a backup that nobody fetches.
const keepOnServer = 24 * time.Hour

// Export builds "lxc export".
func Export(a *cli.App) *cobra.Command {
	var o api.InstanceBackupsPost
	cmd := cli.Command(cli.Help{
		Use:   "export [<remote>:]<instance> [target] [--instance-only] [--optimized-storage]",
		Short: i18n.G("Export instances as backup tarballs"),
		Long: i18n.G("The tarball holds the files, the configuration and the snapshots of the instance. It can be imported by this server and by others.\n\n" +
			"Without a target the file is called backup.tar.gz; \"-\" is standard output."),
		Example: "lxc export c1 c1.tar.gz\nlxc export c1 - --instance-only --compression zstd > c1.tar.zst",
	}, 1, 2, func(cmd *cobra.Command, args []string) error {
		r, err := a.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		o.ContainerOnly = o.InstanceOnly
		o.ExpiresAt = time.Now().Add(keepOnServer)
		return export(cmd.Context(), a, r, o, cli.OptionalArg(args, 1))
	})
	f := cmd.Flags()
	f.BoolVar(&o.InstanceOnly, "instance-only", false, i18n.G("Leave the snapshots out"))
	f.BoolVar(&o.OptimizedStorage, "optimized-storage", false, i18n.G("Use the storage driver's own format (can only be imported into a pool of the same kind)"))
	f.StringVar(&o.CompressionAlgorithm, "compression", "", i18n.G("Compression algorithm to use (none for uncompressed)")+"``")
	return cmd
}

// export has the server make a backup, fetches it, and has it deleted again.
func export(ctx context.Context, a *cli.App, r cli.Resource, o api.InstanceBackupsPost, target string) (err error) {
	out, err := openTarget(a, target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close(err)) }()
	op, err := r.Server.CreateInstanceBackup(r.Name, o)
	if err != nil {
		return fmt.Errorf(i18n.G("Create instance backup: %w"), err)
	}
	if err := a.Follow(op, i18n.G("Backing up instance: %s")); err != nil {
		return err
	}
	urls := op.Get().Resources["backups"]
	if len(urls) == 0 {
		return errors.New(i18n.G("The server does not say which backup it has made"))
	}
	name := path.Base(urls[0])
	defer func() {
		if e := a.Wait(r.Server.DeleteInstanceBackup(r.Name, name)); e != nil && err == nil {
			err = e
		}
	}()
	// An interrupt ends the transfer and leaves neither half a file nor the backup.
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	progress := a.Progress(i18n.G("Exporting the backup: %s"))
	req := &client.BackupFileRequest{BackupFile: out.w}
	if out.file != nil {
		req.ProgressHandler = progress.UpdateTransfer
	}
	_, err = r.Server.WithContext(ctx).GetInstanceBackupFile(r.Name, name, req)
	progress.Done("")
	if err == nil && out.file != nil && !a.Quiet {
		a.Println(i18n.G("Backup exported successfully!"))
	}
	return err
}

// target is where a backup goes: a file that gets its name when it is whole, or
// something that is written to as it is.
type target struct {
	w    io.Writer
	file *os.File // nil: standard output
	name string   // empty: the file has it
}

func openTarget(a *cli.App, name string) (*target, error) {
	if name == "-" {
		return &target{w: a.Out}, nil
	}
	if name == "" {
		name = "backup.tar.gz" // as LXD's client calls it, whatever the compression
	}
	// A device or a pipe.
	if fi, err := os.Stat(name); err == nil && !fi.Mode().IsRegular() {
		if fi.IsDir() {
			return nil, &os.PathError{Op: "open", Path: name, Err: errors.New(i18n.G("is a directory"))}
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		return &target{w: f, file: f}, err
	}
	f, err := cli.TempFile(filepath.Dir(name))
	if err != nil {
		var gone *os.PathError
		if errors.As(err, &gone) {
			gone.Path = name
		}
		return nil, err
	}
	return &target{w: f, file: f, name: name}, nil
}

func (t *target) close(failed error) error {
	if t.file == nil {
		return nil
	}
	err := t.file.Close()
	if t.name == "" {
		return err
	}
	if failed == nil && err == nil {
		err = os.Rename(t.file.Name(), t.name)
	}
	if failed != nil || err != nil {
		_ = os.Remove(t.file.Name())
	}
	return err
}

// Import builds "lxc import".
func Import(a *cli.App) *cobra.Command {
	var pool string
	cmd := cli.Command(cli.Help{
		Use:   "import [<remote>:] <backup file> [<instance name>]",
		Short: i18n.G("Import backups of instances including their snapshots"),
		Long: i18n.G("The instance gets the name and the pool that it had, unless others are given. Profiles and networks that it used must be there.\n\n" +
			"\"-\" as the file is standard input."),
		Example: "lxc import c1.tar.gz\nlxc import c1.tar.gz c2 --storage fast",
	}, 1, 3, func(cmd *cobra.Command, args []string) error {
		remote := ""
		if strings.HasSuffix(args[0], ":") {
			remote, args = args[0], args[1:]
		}
		if len(args) == 0 {
			return errors.New(i18n.G("No backup file was given"))
		}
		if len(args) > 2 {
			return errors.New(i18n.G("Invalid number of arguments"))
		}
		in := args[0]
		file := a.In
		if in != "-" {
			f, err := os.Open(in)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			fi, err := f.Stat()
			if err != nil {
				return err
			}
			file = f
			if fi.Mode().IsRegular() {
				file = &sized{f, int(fi.Size())}
			}
		}
		r, err := a.Resource(cmd, remote)
		if err != nil {
			return err
		}
		return importFrom(a, r, client.InstanceBackupArgs{BackupFile: file, PoolName: pool, Name: cli.OptionalArg(args, 1)})
	})
	cmd.Flags().StringVarP(&pool, "storage", "s", "", i18n.G("Storage pool name")+"``")
	return cmd
}

// sized tells how long a file is, for the progress.
type sized struct {
	io.Reader
	size int
}

func (s *sized) Len() int { return s.size }

func importFrom(a *cli.App, r cli.Resource, args client.InstanceBackupArgs) error {
	title := i18n.G("Importing instance: %s")
	progress := a.Progress(title)
	defer progress.Done("")
	size, ok := args.BackupFile.(interface{ Len() int })
	if ok && !a.Quiet {
		args.BackupFile = client.WithProgress(args.BackupFile, int64(size.Len()), progress.UpdateTransfer)
	}
	op, err := r.Server.CreateInstanceFromBackup(args)
	if err != nil {
		return err
	}
	progress.Done("")
	return a.Follow(op, title)
}
