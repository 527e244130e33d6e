package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sett/shared/errs"
	"sett/shared/i18n"
	"sett/shared/version"
)

// globals are the flags that all verbs take.
type globals struct {
	logFile        string
	syslog         bool
	verbose, debug bool
	trace          []string
}

// env is what a command reaches the world through.
type env struct {
	in       io.Reader
	out, err io.Writer
	dir      string                 // LXD_DIR
	taken    func(name string) bool // whether the host has an interface of that name
	g        globals
}

// Main runs the command line and returns the exit status.
func Main(args []string) int {
	return run(args, &env{in: os.Stdin, out: os.Stdout, err: os.Stderr, dir: stateDir(), taken: taken})
}

func run(args []string, e *env) int {
	root := newRoot(e)
	root.SetArgs(args)
	if err := root.Execute(); err != nil {
		fmt.Fprintln(e.err, i18n.G("Error:"), err)
		var s *exitStatus
		if errors.As(err, &s) {
			return s.code
		}
		return 1
	}
	return 0
}

// exitStatus is an error with a status other than 1.
type exitStatus struct {
	error
	code int
}

func (e *exitStatus) Unwrap() error { return e.error }

func stateDir() string {
	dir := os.Getenv("LXD_DIR")
	if dir == "" {
		return "/var/lib/lxd"
	}
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// newRoot builds the command tree. The root itself is the daemon.
func newRoot(e *env) *cobra.Command {
	root := e.daemonCommand()
	root.Version = version.Version
	root.SetVersionTemplate("{{.Version}}\n")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(e.in)
	root.SetOut(e.out)
	root.SetErr(e.err)

	f := root.PersistentFlags()
	f.StringVar(&e.g.logFile, "logfile", "", i18n.G("File to write the log to, beside standard error")+noType)
	f.BoolVar(&e.g.syslog, "syslog", false, i18n.G("Write the log to syslog too"))
	f.BoolVarP(&e.g.verbose, "verbose", "v", false, i18n.G("Log what an operator wants to know"))
	f.BoolVarP(&e.g.debug, "debug", "d", false, i18n.G("Log everything"))
	f.StringSliceVar(&e.g.trace, "trace", nil, i18n.G("Parts of the daemon to trace; they are logged like --debug")+noType)
	f.BoolP("help", "h", false, i18n.G("Print help"))
	root.Flags().Bool("version", false, i18n.G("Print the version"))

	root.AddCommand(e.activateCommand(), e.clusterCommand(), e.initCommand(), e.shutdownCommand(), e.sqlCommand(), e.versionCommand(), e.waitReadyCommand())
	root.AddCommand(e.recoverCommand(), e.importCommand())
	return root
}

// noType at the end of a flag's text keeps the type of its value out of the help.
const noType = "``"

func needRoot(what string) error {
	if os.Geteuid() != 0 {
		return errs.Forbidden(i18n.G("%s needs root; run it with sudo"), what)
	}
	return nil
}
