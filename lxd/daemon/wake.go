package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sett/lxd/db/node"
	"sett/lxd/server"
)

// A service manager may start the daemon with the first request only. Whether it is
// needed before that, at boot, the daemon itself notes when it ends: nobody else can
// read its databases without the risk of getting in its way. While it runs, and after
// it was killed, there is no note, and no note means that it is needed.
type wakeNote struct {
	Reasons []string `json:"reasons"`
}

func wakePath(dir string) string { return filepath.Join(dir, "database", "wake.json") }

// WakeReasons tells why the daemon of an LXD_DIR should be started at boot. None
// means that it can wait for a request.
func WakeReasons(dir string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(dir, "database", node.FileName)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(wakePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return []string{"it runs, or did not end in order the last time"}, nil
	}
	if err != nil {
		return nil, err
	}
	var n wakeNote
	if err := json.Unmarshal(b, &n); err != nil {
		return []string{fmt.Sprintf("its note of the last end cannot be read: %v", err)}, nil
	}
	return n.Reasons, nil
}

// noteWake writes the note, when instances and databases still answer. Without it
// the daemon is started for nothing, which harms nobody.
func (d *Daemon) noteWake(ctx context.Context) {
	var n wakeNote
	var start bool
	var err error
	if d.here.Clustered() {
		// The others need it, and may be gone by now together with the database.
		n.Reasons = append(n.Reasons, "it is a member of a cluster")
	} else {
		start, err = d.own.instances.NeedsDaemon(ctx)
	}
	if err == nil && start {
		n.Reasons = append(n.Reasons, "instances are to be started")
	}
	if c, cerr := d.st.Local.Config(ctx); cerr != nil || server.HTTPSAddress.Get(c) != "" {
		n.Reasons = append(n.Reasons, "the API is to be on the network")
	}
	var b []byte
	if err == nil {
		b, err = json.Marshal(n)
	}
	if err == nil {
		err = os.WriteFile(wakePath(d.o.Dir)+".new", append(b, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(wakePath(d.o.Dir)+".new", wakePath(d.o.Dir))
	}
	if err != nil {
		d.log.Warn("Could not note whether the daemon is needed at the next boot", "err", err)
	}
}

// dropWake takes the note away: from now on the daemon may die at any time.
func (d *Daemon) dropWake() error {
	if err := os.Remove(wakePath(d.o.Dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
