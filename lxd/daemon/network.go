package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"time"
)

// networkSeed is a value that this daemon keeps for ever and no other has: the
// host's id and the daemon's folder.
func networkSeed(dir string) string {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		// Hosts without one are containers and rescue systems; their name is the next best.
		name, _ := os.Hostname()
		id = []byte(name)
	}
	sum := sha256.Sum256(append(id, dir...))
	return hex.EncodeToString(sum[:8])
}

// networksWait is how long the daemon waits for its networks before it calls itself
// ready. One that hangs must not keep the rest from clients.
const networksWait = 10 * time.Second

// startNetworks starts the networks in the background. up returns when each has
// been tried, or has taken too long.
func (d *Daemon) startNetworks() (up func()) {
	d.wg.Add(1)
	go func() {
		defer d.wg.Done()
		d.own.networks.Start(d.ctx)
	}()
	return func() {
		select {
		case <-d.own.networks.Ready():
		case <-time.After(networksWait):
			d.log.Warn("Networks take long to start", "waited", networksWait)
		case <-d.ctx.Done():
		}
	}
}
