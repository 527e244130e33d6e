package devlxd

import (
	"context"
	"testing"

	"sett/lxd/instance"
)

func TestRecentLoadsOncePerMoment(t *testing.T) {
	t.Parallel()
	var r recent
	loads := 0
	load := func(context.Context, int64) (*instance.Instance, error) {
		loads++
		return &instance.Instance{ID: 1}, nil
	}
	get := func() {
		t.Helper()
		if i, err := r.get(t.Context(), 1, load); err != nil || i == nil {
			t.Fatal(i, err)
		}
	}
	for range 1000 {
		get()
	}
	if loads > 20 { // a slow machine may take several moments for it
		t.Errorf("%d loads", loads)
	}
	r.forget(1)
	before := loads
	get()
	if loads != before+1 {
		t.Error("what was forgotten was not loaded")
	}
	// What changes while it is loaded is not kept.
	r.forget(1)
	if _, err := r.get(t.Context(), 1, func(ctx context.Context, id int64) (*instance.Instance, error) {
		r.forget(1)
		return load(ctx, id)
	}); err != nil {
		t.Fatal(err)
	}
	before = loads
	get()
	if loads != before+1 {
		t.Error("an old state was kept")
	}
	if i, err := r.get(t.Context(), 2, func(context.Context, int64) (*instance.Instance, error) { return nil, nil }); i != nil || err != nil {
		t.Error(i, err)
	}
}
