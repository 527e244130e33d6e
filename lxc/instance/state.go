package instance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

// action is one of start, stop, restart and pause.
type action struct {
	*cli.App
	name    string // of the command
	action  string // of the API
	all     bool
	force   bool
	timeout int
	console consoleFlag
	wait    waitFlag
	failed  string // when some failed
}

const manyArg = "[<remote>:]<instance> [[<remote>:]<instance>...]"

func (c *action) command(h cli.Help, force bool) *cobra.Command {
	h.Use = c.name + " " + manyArg
	h.Example = "lxc " + c.name + " c1 c2"
	cmd := cli.Command(h, 0, -1, c.run)
	cmd.Flags().BoolVar(&c.all, "all", false, i18n.G("Run against all instances"))
	c.timeout = -1
	if force {
		cmd.Flags().BoolVarP(&c.force, "force", "f", false, i18n.G("Force the instance to stop"))
		cmd.Flags().IntVar(&c.timeout, "timeout", -1, i18n.G("Time to wait for the instance to shutdown cleanly")+"``")
	}
	return cmd
}

// Start builds "lxc start".
func Start(a *cli.App) *cobra.Command {
	c := &action{App: a, name: "start", action: "start", failed: i18n.G("Some instances failed to start")}
	cmd := c.command(cli.Help{Short: i18n.G("Start instances"), Long: i18n.G("A paused instance goes on.")}, false)
	c.console.add(cmd)
	c.wait.add(cmd)
	// LXD's flag, for instances that were stopped with their processes; here none are.
	cmd.Flags().Bool("stateless", false, i18n.G("Ignore the instance state"))
	return cmd
}

// Stop builds "lxc stop".
func Stop(a *cli.App) *cobra.Command {
	c := &action{App: a, name: "stop", action: "stop", failed: i18n.G("Some instances failed to stop")}
	cmd := c.command(cli.Help{Short: i18n.G("Stop instances")}, true)
	c.console.add(cmd)
	cli.Later(cmd, "stateful")
	return cmd
}

// Restart builds "lxc restart".
func Restart(a *cli.App) *cobra.Command {
	c := &action{App: a, name: "restart", action: "restart", failed: i18n.G("Some instances failed to restart")}
	cmd := c.command(cli.Help{Short: i18n.G("Restart instances")}, true)
	c.wait.add(cmd)
	c.console.add(cmd)
	return cmd
}

// Pause builds "lxc pause".
func Pause(a *cli.App) *cobra.Command {
	c := &action{App: a, name: "pause", action: "freeze", failed: i18n.G("Some instances failed to pause")}
	return c.command(cli.Help{Short: i18n.G("Pause instances"), Hidden: true, Long: i18n.G("\"lxc start\" lets them go on."), Aliases: []string{"freeze"}}, false)
}

func (c *action) run(cmd *cobra.Command, args []string) error {
	names := args
	if err := c.wait.check(); err != nil {
		return err
	}
	if c.console.kind != "" {
		switch {
		case c.all:
			return errors.New(i18n.G("--console can't be used with --all"))
		case len(names) > 1:
			return errors.New(i18n.G("--console only works with a single instance"))
		case c.force && c.action == "stop":
			return errors.New(i18n.G("--console can't be used while forcing instance shutdown"))
		}
		if err := c.console.check(); err != nil {
			return err
		}
	}
	if c.all {
		for _, arg := range args {
			if !strings.HasSuffix(arg, ":") {
				return errors.New(i18n.G("Both --all and instance name given"))
			}
		}
		var err error
		if names, err = c.everything(cmd, args); err != nil {
			return err
		}
	} else if len(args) == 0 {
		return cli.Usage(cmd)
	}
	// Servers are connected to before the work runs side by side.
	resources, err := c.Resources(cmd, names)
	if err != nil {
		return err
	}
	if len(names) == 1 {
		return c.single(cmd.Context(), resources[0], names[0])
	}
	results := make([]error, len(names))
	var wg sync.WaitGroup
	for i := range names {
		wg.Go(func() { results[i] = c.whole(cmd.Context(), resources[i], names[i]) })
	}
	wg.Wait()
	bad := false
	for i, err := range results {
		if err == nil {
			continue
		}
		bad = true
		msg := fmt.Sprintf(i18n.G("error: %v"), err)
		for line := range strings.SplitSeq(msg, "\n") {
			_, _ = fmt.Fprintf(c.Err, "%s: %s\n", names[i], line)
		}
	}
	if bad {
		_, _ = fmt.Fprintln(c.Err)
		return errors.New(c.failed)
	}
	return nil
}

// whole does it to one instance and waits for what the user wants to wait for.
func (c *action) whole(ctx context.Context, r cli.Resource, arg string) error {
	if err := c.one(r, arg); err != nil {
		return err
	}
	return c.wait.wait(ctx, r, arg)
}

// single does it to one instance, whose console the user may want to see.
func (c *action) single(ctx context.Context, r cli.Resource, arg string) error {
	if c.action != "stop" || c.console.kind == "" {
		if err := c.whole(ctx, r, arg); err != nil {
			return err
		}
		return c.console.attach(ctx, c.App, r)
	}
	// What it says while it goes down is what is wanted. The console ends with it.
	ended := make(chan error, 1)
	go func() { ended <- c.one(r, arg) }()
	shown := c.console.attach(ctx, c.App, r)
	if err := <-ended; err != nil {
		return err
	}
	if st, _, err := r.Server.GetInstanceState(r.Name); err == nil && st.StatusCode == api.Stopped {
		return nil // too fast for a console
	}
	return shown
}

// everything lists the instances of the remotes whose state the action changes.
func (c *action) everything(cmd *cobra.Command, remotes []string) ([]string, error) {
	if len(remotes) == 0 {
		remotes = []string{""}
	}
	var out []string
	for _, remote := range remotes {
		r, err := c.Resource(cmd, remote)
		if err != nil {
			return nil, err
		}
		list, err := r.Server.GetInstances(api.InstanceTypeAny)
		if err != nil {
			return nil, err
		}
		for _, inst := range list {
			running := inst.StatusCode == api.Running || inst.StatusCode == api.Ready
			if c.action == "start" && running || c.action != "start" && !running && !(c.action == "stop" && inst.StatusCode == api.Frozen) {
				continue
			}
			out = append(out, remote+inst.Name)
		}
	}
	return out, nil
}

func (c *action) one(r cli.Resource, arg string) error {
	if r.Name == "" {
		return fmt.Errorf(i18n.G("Must supply instance name for: %s"), `"`+arg+`"`)
	}
	req := api.InstanceStatePut{Action: c.action, Timeout: c.timeout, Force: c.force}
	if c.action == "start" {
		inst, _, err := r.Server.GetInstance(r.Name)
		if err != nil {
			return err
		}
		if inst.StatusCode == api.Frozen {
			req.Action = "unfreeze"
		}
	}
	return changeState(c.App, r, arg, req)
}

// changeState asks for a state and waits for it; arg is how the user named it.
func changeState(a *cli.App, r cli.Resource, arg string, req api.InstanceStatePut) error {
	op, err := r.Server.UpdateInstanceState(r.Name, req, "")
	if err != nil {
		return err
	}
	if err := a.Follow(op, "%s"); err != nil {
		return fmt.Errorf("%w\n"+i18n.G("Try `lxc info --show-log %s` for more info"), err, arg)
	}
	return nil
}
