package driver

import (
	"context"
	"fmt"

	"sett/shared/undo"
)

// Still returns a folder in which nothing changes. A copy has no name, so that one that
// a killed daemon has left goes when the pool is mounted.
func (t *Trees) Still(ctx context.Context, v Volume, quiet Quiet) (string, func(), error) {
	if err := t.there(v); err != nil {
		return "", nil, err
	}
	if quiet == nil {
		return t.Path(v), func() {}, nil
	}
	if err := flush(t.Path(v)); err != nil {
		return "", nil, err
	}
	hold := func() (func(), error) { return quiet(ctx) }
	if now, ok := t.Back.(Instant); ok {
		var u undo.Stack
		u.OnError = t.report
		tmp := t.begin(&u)
		done, err := now.CloneNow(tmp, t.Path(v), hold)
		if done && err == nil {
			return tmp, u.Run, nil
		}
		u.Run()
		if err != nil {
			return "", nil, fmt.Errorf("copy volume %s: %w", v.Name, Explain(err))
		}
	}
	resume, err := hold()
	return t.Path(v), resume, err
}

// Hold implements Holder. Where a clone is not made in one step it would be a copy of
// all that there is, so the volume itself is shown.
func (t *Trees) Hold(ctx context.Context, v Volume, quiet Quiet) (string, func(), error) {
	if err := t.there(v); err != nil {
		return "", nil, err
	}
	now, ok := t.Back.(Instant)
	if !ok || v.IsSnapshot() {
		return t.Path(v), func() {}, nil
	}
	var u undo.Stack
	u.OnError = t.report
	defer u.Run()
	var held func() (func(), error)
	if quiet != nil {
		if err := flush(t.Path(v)); err != nil {
			return "", nil, err
		}
		held = func() (func(), error) { return quiet(ctx) }
	}
	tmp := t.begin(&u)
	done, err := now.SnapshotNow(tmp, t.Path(v), held)
	if err != nil {
		return "", nil, Explain(err)
	}
	if !done {
		return t.Path(v), func() {}, nil
	}
	return tmp, u.Take().Run, nil
}
