package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/i18n"
)

type mount struct {
	*cli.App
	listen, user string
	snapshot     string
	open         bool
}

func mountCommand(a *cli.App) *cobra.Command {
	c := &mount{App: a}
	cmd := cli.Command(cli.Help{
		Use: "mount [<remote>:]<instance>[/<path>] [<target path>]", Short: i18n.G("Mount files from instances"),
		Long:    i18n.G("With a target path the files are mounted there by sshfs, until the command ends.\nWithout one, the command waits for SFTP clients on an address of this machine and\nsays how they log in."),
		Example: "lxc file mount c1/root mnt\nlxc file mount c1 --listen 127.0.0.1:2222",
	}, 1, 2, c.run)
	f := cmd.Flags()
	f.StringVar(&c.listen, "listen", "", i18n.G("Setup SSH SFTP listener on address:port instead of mounting")+"``")
	f.BoolVar(&c.open, "no-auth", false, i18n.G("Disable authentication when using SSH SFTP listener"))
	f.StringVar(&c.snapshot, "snapshot", "", i18n.G("Show this snapshot of the instance, to read only")+"``")
	f.StringVar(&c.user, "auth-user", "", i18n.G("Set authentication user when using SSH SFTP listener")+"``")
	return cmd
}

func (c *mount) run(cmd *cobra.Command, args []string) error {
	r, err := c.Named(cmd, args[0], i18n.G("Missing instance name"))
	if err != nil {
		return err
	}
	instance, inside, _ := strings.Cut(r.Name, "/")
	if instance == "" {
		return errors.New(i18n.G("Missing instance name"))
	}
	if c.snapshot != "" {
		instance += "/" + c.snapshot
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if len(args) < 2 {
		if inside != "" {
			return fmt.Errorf(i18n.G("Clients of a listener see all files of the instance; leave /%s away, or give a target path to mount it on"), inside)
		}
		return c.serve(ctx, r.Server, instance)
	}
	if c.listen != "" {
		return errors.New(i18n.G("Target path and --listen flag cannot be used together"))
	}
	fi, err := os.Stat(args[1])
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return errors.New(i18n.G("Target path must be a directory"))
	}
	program, err := exec.LookPath("sshfs")
	if err != nil {
		return errors.New(i18n.G("sshfs not found. Try SSH SFTP mode using the --listen flag"))
	}
	return c.sshfs(ctx, r.Server, program, instance, "/"+inside, args[1])
}

// sshfs mounts by a program that speaks SFTP on its standard streams.
func (c *mount) sshfs(ctx context.Context, s client.InstanceServer, program, instance, inside, target string) error {
	conn, err := s.GetInstanceFileSFTPConn(instance)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	run := exec.CommandContext(ctx, program, "-f", "-o", "slave", instance+":"+inside, target)
	// Told to end, it unmounts.
	run.Cancel = func() error { return run.Process.Signal(os.Interrupt) }
	run.Stderr = c.Err
	out, err := run.StdoutPipe()
	if err != nil {
		return err
	}
	in, err := run.StdinPipe()
	if err != nil {
		return err
	}
	if err := run.Start(); err != nil {
		return err
	}
	c.Printf(i18n.G("sshfs mounting %q on %q\n"), instance+inside, target)
	c.Println(i18n.G("Press ctrl+c to finish"))
	go func() {
		_, _ = io.Copy(in, conn)
		_ = in.Close()
	}()
	_, _ = io.Copy(conn, out)
	err = run.Wait()
	if ctx.Err() != nil {
		return nil // as wished
	}
	if err != nil {
		return fmt.Errorf(i18n.G("sshfs has ended: %w"), err)
	}
	return nil
}

// serve lets SFTP clients in by SSH until ctx ends.
func (c *mount) serve(ctx context.Context, s client.InstanceServer, instance string) error {
	// Asked once before anybody waits for it: whether it works at all.
	probe, err := s.GetInstanceFileSFTPConn(instance)
	if err != nil {
		return err
	}
	_ = probe.Close()
	at := c.listen
	if at == "" {
		at = "127.0.0.1:0"
	}
	gate, err := newGate(c.user, c.open)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", at)
	if err != nil {
		return err
	}
	c.Printf(i18n.G("SSH SFTP listening on %v\n"), l.Addr())
	if c.open {
		c.Println(i18n.G("Login without username and password"))
	} else {
		c.Printf(i18n.G("Login with username %q and password %q\n"), gate.user, gate.password)
	}
	return gate.serve(ctx, l, func() (io.ReadWriteCloser, error) { return s.GetInstanceFileSFTPConn(instance) },
		func(err error) { _, _ = fmt.Fprintf(c.Err, i18n.G("A client could not be served: %v\n"), err) })
}
