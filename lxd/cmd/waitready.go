package cmd

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"sett/shared/i18n"
)

const pollEvery = 50 * time.Millisecond

func (e *env) waitReadyCommand() *cobra.Command {
	var timeout int
	c := &cobra.Command{
		Use: "waitready", Short: i18n.G("Wait until the daemon is ready for requests"), Args: cobra.NoArgs,
		Long: i18n.G("Wait until the daemon is ready for requests.\n\nIt is ready when storage pools and networks are up and the instances that ran\nbefore have been found again."),
		RunE: func(cmd *cobra.Command, _ []string) error { return e.waitReady(cmd.Context(), timeout) },
	}
	c.Flags().IntVarP(&timeout, "timeout", "t", 0, i18n.G("Seconds to wait at most")+noType)
	return c
}

func (e *env) waitReady(ctx context.Context, timeout int) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
		defer cancel()
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		err := e.askReady(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // the error of the moment, not that of the deadline
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf(i18n.G("LXD still not running after %ds timeout (%w)"), timeout, last)
		}
	}
}

// askReady waits inside the daemon, so that it answers the moment it is ready.
func (e *env) askReady(ctx context.Context) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Disconnect()
	_, _, err = c.RawQuery(http.MethodGet, "/internal/ready?wait=1", nil, "")
	return err
}
