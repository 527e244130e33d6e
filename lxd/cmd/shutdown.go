package cmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sett/lxd/host/process"
	"sett/shared/i18n"
)

func (e *env) shutdownCommand() *cobra.Command {
	var timeout int
	var force bool
	c := &cobra.Command{
		Use: "shutdown", Short: i18n.G("Stop all instances and the daemon"), Args: cobra.NoArgs,
		Long: i18n.G("Stop all instances and the daemon, and wait until both are gone.\n\nInstances get the time that they are configured to have for a clean stop."),
		RunE: func(cmd *cobra.Command, _ []string) error { return e.shutdown(cmd.Context(), timeout, force) },
	}
	c.Flags().IntVarP(&timeout, "timeout", "t", 0, i18n.G("Seconds to wait at most")+noType)
	c.Flags().BoolVarP(&force, "force", "f", false, i18n.G("Do not wait for running operations to end"))
	return c
}

func (e *env) shutdown(ctx context.Context, timeout int, force bool) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
		defer cancel()
	}
	err := e.askShutdown(ctx, force)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf(i18n.G("LXD still running after %ds timeout"), timeout)
	}
	return err
}

func (e *env) askShutdown(ctx context.Context, force bool) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Disconnect()
	// The process is held before it is asked to end: who waits for a number may wait
	// for somebody else's.
	info, _, err := c.GetServer()
	if err != nil {
		return err
	}
	gone, err := process.Open(info.Environment.ServerPid, 0)
	if err == nil {
		defer gone.Close()
	}
	q := url.Values{"force": {strconv.FormatBool(force)}}
	if _, _, err := c.RawQuery(http.MethodPut, "/internal/shutdown?"+q.Encode(), nil, ""); err != nil {
		return err
	}
	if gone == nil {
		return nil
	}
	return gone.Wait(ctx)
}
