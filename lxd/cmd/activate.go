package cmd

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"sett/lxd/daemon"
	"sett/shared/i18n"
)

func (e *env) activateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "activateifneeded", Short: i18n.G("Start the daemon if it has something to do"), Args: cobra.NoArgs,
		Long: i18n.G(`Start the daemon if it has something to do.

For hosts where the service manager starts the daemon with the first request. At
boot there may be instances to start before anybody asks for anything: then this
verb makes a request. --debug tells the reasons.`),
		RunE: func(cmd *cobra.Command, _ []string) error { return e.activateIfNeeded(cmd.Context()) },
	}
}

func (e *env) activateIfNeeded(ctx context.Context) error {
	if err := needRoot(i18n.G("activateifneeded")); err != nil {
		return err
	}
	h, file, err := e.logging()
	if err != nil {
		return err
	}
	if file != nil {
		defer file.Close()
	}
	log := slog.New(h)
	reasons, err := daemon.WakeReasons(e.dir)
	if err != nil {
		return err
	}
	if len(reasons) == 0 {
		log.Debug("Nothing needs the daemon now", "dir", e.dir)
		return nil
	}
	for _, r := range reasons {
		log.Debug("The daemon is needed", "reason", r)
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Disconnect()
	_, _, err = c.GetServer()
	return err
}
