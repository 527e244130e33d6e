package driver

import (
	"context"
	"fmt"

	"sett/shared/undo"
)

// Still returns a folder in which nothing changes.
func (t *Trees) Still(ctx context.Context, v Volume, quiet Quiet) (string, func(), error) {
	if quiet == nil {
		return t.Path(v), func() {}, t.there(v)
	}
	dir, drop, err := t.moment(ctx, v, quiet)
	if err != nil || dir != "" {
		return dir, drop, err
	}
	hold, err := t.holding(ctx, t.Path(v), quiet)
	if err != nil {
		return "", nil, err
	}
	resume, err := hold()
	return t.Path(v), resume, err
}

// Hold implements Holder. Where a clone is not made in one step it would be a copy of
// all that there is, so the volume itself is shown.
func (t *Trees) Hold(ctx context.Context, v Volume, quiet Quiet) (string, func(), error) {
	if v.IsSnapshot() {
		return t.Path(v), func() {}, t.there(v)
	}
	dir, drop, err := t.moment(ctx, v, quiet)
	if err != nil || dir != "" {
		return dir, drop, err
	}
	return t.Path(v), func() {}, nil
}

// moment makes a sealed clone of a volume where that is one step; else dir is empty. The
// clone has no name: one that a killed daemon has left goes when the pool is mounted.
func (t *Trees) moment(ctx context.Context, v Volume, quiet Quiet) (dir string, drop func(), err error) {
	if err := t.there(v); err != nil {
		return "", nil, err
	}
	now, ok := t.Back.(Instant)
	if !ok {
		return "", nil, nil
	}
	var u undo.Stack
	u.OnError = t.report
	defer u.Run()
	hold, err := t.holding(ctx, t.Path(v), quiet)
	if err != nil {
		return "", nil, err
	}
	tmp := t.begin(&u)
	done, err := now.SnapshotNow(tmp, t.Path(v), hold)
	if err != nil {
		return "", nil, fmt.Errorf("copy volume %s: %w", v.Name, Explain(err))
	}
	if !done {
		return "", nil, nil
	}
	return tmp, u.Take().Run, nil
}
