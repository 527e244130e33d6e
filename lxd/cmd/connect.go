package cmd

import (
	"context"
	"os"
	"path/filepath"

	"sett/client"
)

// socket is where the daemon of this LXD_DIR listens.
func (e *env) socket() string {
	if p := os.Getenv("LXD_SOCKET"); p != "" {
		return p
	}
	return filepath.Join(e.dir, "unix.socket")
}

// connect reaches the running daemon and asks it nothing yet.
func (e *env) connect(ctx context.Context) (client.InstanceServer, error) {
	return client.ConnectLXDUnixWithContext(ctx, e.socket(), &client.ConnectionArgs{SkipGetServer: true})
}
