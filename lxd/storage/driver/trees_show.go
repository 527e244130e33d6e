package driver

import (
	"context"
	"fmt"

	"sett/shared/undo"
)

// Show gives a folder with the content of a volume to read. A copy that it makes for that
// has no name: one that a killed daemon has left goes when the pool is mounted.
func (t *Trees) Show(ctx context.Context, v Volume, quiet Quiet) (View, error) {
	if err := t.there(v); err != nil {
		return View{}, err
	}
	itself := View{Dir: t.Path(v), Quiet: quiet, Release: func() {}}
	if quiet == nil {
		return itself, nil
	}
	var u undo.Stack
	u.OnError = t.report
	defer u.Run()
	tmp := t.begin(&u)
	done, err := t.moment(ctx, tmp, itself.Dir, quiet)
	if err != nil {
		return View{}, fmt.Errorf("copy volume %s: %w", v.Name, Explain(err))
	}
	if !done {
		return itself, nil
	}
	return View{Dir: tmp, Release: u.Take().Run}, nil
}

// moment makes dst what src is at one moment, if that takes no room.
func (t *Trees) moment(ctx context.Context, dst, src string, quiet Quiet) (done bool, err error) {
	if now, ok := t.Back.(Instant); ok {
		hold, err := t.holding(ctx, src, quiet, nil)
		if err != nil {
			return false, err
		}
		return now.SnapshotNow(dst, src, hold)
	}
	if s, ok := t.Back.(Sharing); ok && s.Shares(t.Nursery()) {
		return true, t.Back.Clone(ctx, dst, src, CloneOpts{Quiet: quiet})
	}
	return false, nil
}
