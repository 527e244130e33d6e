package cli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/config"
	"sett/shared/i18n"
	"sett/shared/version"
)

// App is one run of lxc.
type App struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// Getenv reads the environment.
	Getenv func(string) string

	// Conf is read before a command runs.
	Conf *config.Config
	// NotBuilt are paths of commands that are refused by name.
	NotBuilt []string
	// ExitCode is what the process ends with; with an error it is 1 at least.
	ExitCode int

	// Global flags.
	Project    string
	ForceLocal bool
	Debug      bool
	Verbose    bool
	Quiet      bool

	commands []func(*App) *cobra.Command
	servers  map[string]client.InstanceServer
	first    bool
	lines    *bufio.Reader // over In, for questions
}

// New returns an App on the process's own streams.
func New(commands ...func(*App) *cobra.Command) *App {
	return &App{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, commands: commands}
}

// Run executes one command line and returns the exit code.
func (a *App) Run(ctx context.Context, args []string) int {
	root := a.Root()
	a.servers = map[string]client.InstanceServer{}
	defer func() {
		for _, s := range a.servers {
			s.Disconnect()
		}
	}()
	err := a.loadConf()
	if err == nil {
		args, err = a.expandAlias(root, args)
	}
	if err == nil {
		root.SetArgs(args)
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return a.ExitCode
	}
	_, _ = fmt.Fprintf(a.Err, i18n.G("Error: %v\n"), err)
	return max(a.ExitCode, 1)
}

// Root builds the command tree.
func (a *App) Root() *cobra.Command {
	root := &cobra.Command{
		Use:               "lxc",
		Short:             i18n.G("Command line client for system containers"),
		Long:              i18n.G("Command line client for system containers\n\nEvery object can be given as [<remote>:]name. Without a remote it is looked for\non the default one, which is this machine unless \"lxc remote switch\" changed it."),
		Example:           "lxc launch debian c1\nlxc exec c1 -- bash",
		SilenceUsage:      true,
		SilenceErrors:     true,
		Version:           version.Version,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE:              Group,
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetHelpTemplate(helpTemplate)
	root.SetUsageTemplate(usageTemplate)
	f := root.PersistentFlags()
	f.StringVar(&a.Project, "project", "", i18n.G("Work in this project instead of the remote's")+"``")
	f.BoolVar(&a.ForceLocal, "force-local", false, i18n.G("Use the local unix socket, whatever the remotes are"))
	f.BoolVar(&a.Debug, "debug", false, i18n.G("Show all requests and answers"))
	f.BoolVarP(&a.Verbose, "verbose", "v", false, i18n.G("Show more of what is done"))
	f.BoolVarP(&a.Quiet, "quiet", "q", false, i18n.G("Don't show progress"))
	f.Bool("version", false, i18n.G("Print the version"))
	f.BoolP("help", "h", false, i18n.G("Print help"))
	f.Bool("sub-commands", false, i18n.G("Print hidden commands too (with --help)"))
	root.PersistentPreRunE = a.prepare
	for _, c := range a.commands {
		root.AddCommand(c(a))
	}
	for _, path := range a.NotBuilt {
		addRefusal(root, path)
	}
	a.addCompletion(root)
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if all, _ := cmd.Flags().GetBool("sub-commands"); all {
			for _, c := range cmd.Commands() {
				c.Hidden = false
			}
		}
		help(cmd, args)
	})
	return root
}

// confDir is where the configuration lives.
func (a *App) confDir() (string, error) {
	if d := a.Getenv("LXD_CONF"); d != "" {
		return d, nil
	}
	home := a.Getenv("HOME")
	if home == "" {
		var err error
		if home, err = os.UserHomeDir(); err != nil {
			return "", err
		}
	}
	return filepath.Join(home, ".config", "lxc"), nil
}

func (a *App) loadConf() error {
	dir, err := a.confDir()
	if err != nil {
		return err
	}
	global := a.Getenv("LXD_GLOBAL_CONF")
	if global == "" {
		global = "/etc/lxc"
	}
	if a.Conf, a.first, err = config.Load(dir, global); err != nil {
		return err
	}
	a.Conf.Socket = a.Getenv("LXD_SOCKET")
	if d := a.Getenv("LXD_DIR"); a.Conf.Socket == "" && d != "" {
		a.Conf.Socket = filepath.Join(d, "unix.socket")
	}
	return nil
}

// prepare runs before each command, when the flags are known.
func (a *App) prepare(cmd *cobra.Command, _ []string) error {
	top := cmd
	for top.HasParent() && top.Parent().HasParent() {
		top = top.Parent()
	}
	// What manages the remotes connects to those that it names.
	if a.ForceLocal && top.Name() != "remote" {
		a.Conf.UseLocal()
	}
	a.Conf.Project = a.project()
	switch top.Name() {
	case "version", "completion", "help", "remote", "query", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
		return nil
	}
	if a.first {
		_, _ = fmt.Fprintln(a.Err, i18n.G("If this is your first time running LXD on this machine, you should also run: lxd init"))
		_, _ = fmt.Fprintln(a.Err, i18n.G("To start your first container, try: lxc launch IMAGE NAME")+"\n")
		// A home that cannot be written to shows the hint again, no more.
		_ = a.Conf.Save()
	}
	return nil
}

// project is the one that this run works in; empty means that of the remote.
func (a *App) project() string { return cmp.Or(a.Project, a.Getenv("LXD_PROJECT")) }

// ConnectionArgs are the options that the flags make.
func (a *App) ConnectionArgs() client.ConnectionArgs {
	args := client.ConnectionArgs{}
	if a.Debug {
		args.Logger = slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return args
}

// Server is the way to a remote, one for all that is asked of it. Nothing is asked yet, not
// even what the server is: most commands get along without.
func (a *App) Server(ctx context.Context, remote string) (client.InstanceServer, error) {
	if s, ok := a.servers[remote]; ok {
		return s, nil
	}
	args := a.ConnectionArgs()
	args.SkipGetServer = true
	s, err := a.Conf.InstanceServer(ctx, remote, args)
	if err != nil {
		return nil, err
	}
	a.servers[remote] = s
	return s, nil
}

// ImageServer connects to a remote that has images, perhaps nothing else.
func (a *App) ImageServer(ctx context.Context, remote string) (client.ImageServer, error) {
	if r := a.Conf.Remotes[remote]; r.Public || r.Protocol == "simplestreams" {
		return a.Conf.ImageServer(ctx, remote, a.ConnectionArgs())
	}
	return a.Server(ctx, remote)
}

// Printf writes a result to stdout.
func (a *App) Printf(format string, args ...any) { _, _ = fmt.Fprintf(a.Out, format, args...) }

// Println writes a result to stdout.
func (a *App) Println(args ...any) { _, _ = fmt.Fprintln(a.Out, args...) }

// Say writes a result to stdout, unless --quiet.
func (a *App) Say(format string, args ...any) {
	if !a.Quiet {
		a.Printf(format+"\n", args...)
	}
}
