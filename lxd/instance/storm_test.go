package instance_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"sett/lxd/instance"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
)

// TestStormOfRequests has many clients do all that there is to one instance at the same
// time, some of whom lose patience. Whatever comes between what: every request is done or
// refused with a reason, and in the end the instance can be used and deleted.
func TestStormOfRequests(t *testing.T) {
	t.Parallel()
	w := original(t)
	if err := w.snapshot(instance.NewSnapshot{Name: "kept"}); err != nil {
		t.Fatal(err)
	}
	name := func(r *rand.Rand) string { return []string{"c1", "c1", "c1", "c2"}[r.IntN(4)] }
	requests := []func(ctx context.Context, r *rand.Rand) error{
		func(ctx context.Context, r *rand.Rand) error { return w.s.Start(ctx, "default", name(r), nil) },
		func(ctx context.Context, r *rand.Rand) error { return w.s.Start(ctx, "default", name(r), nil) },
		func(ctx context.Context, r *rand.Rand) error {
			return w.s.Stop(ctx, "default", name(r), instance.StopOptions{Force: r.IntN(2) == 0, Timeout: time.Second}, nil)
		},
		func(ctx context.Context, r *rand.Rand) error {
			return w.s.Restart(ctx, "default", name(r), instance.StopOptions{Force: true}, nil)
		},
		func(ctx context.Context, r *rand.Rand) error { return w.s.Freeze(ctx, "default", name(r), nil) },
		func(ctx context.Context, r *rand.Rand) error { return w.s.Unfreeze(ctx, "default", name(r), nil) },
		func(ctx context.Context, r *rand.Rand) error { return w.s.Rename(ctx, "default", "c1", "c2", nil) },
		func(ctx context.Context, r *rand.Rand) error { return w.s.Rename(ctx, "default", "c2", "c1", nil) },
		func(ctx context.Context, r *rand.Rand) error {
			_, err := w.s.CreateSnapshot(ctx, "default", name(r), instance.NewSnapshot{Name: "s"}, nil)
			return err
		},
		func(ctx context.Context, r *rand.Rand) error {
			return w.s.DeleteSnapshot(ctx, "default", name(r), "s", nil)
		},
		func(ctx context.Context, r *rand.Rand) error {
			return w.s.RenameSnapshot(ctx, "default", name(r), "s", "t", nil)
		},
		func(ctx context.Context, r *rand.Rand) error {
			return w.s.DeleteSnapshot(ctx, "default", name(r), "t", nil)
		},
		func(ctx context.Context, r *rand.Rand) error {
			return w.s.Restore(ctx, admin, "default", name(r), "kept")
		},
		func(ctx context.Context, r *rand.Rand) error {
			return w.s.Move(ctx, admin, "default", name(r), instance.NewPlace{Pool: []string{"pool", "other"}[r.IntN(2)]}, nil)
		},
		func(ctx context.Context, r *rand.Rand) error {
			return w.s.Patch(ctx, admin, "default", name(r), func(i *instance.Instance) (instance.Change, error) {
				c := instance.Change{Config: map[string]string{"limits.memory": []string{"32MiB", "64MiB"}[r.IntN(2)]}, Devices: i.Devices, Profiles: []string{"default"}}
				for k, v := range i.Config {
					if _, ok := c.Config[k]; !ok {
						c.Config[k] = v
					}
				}
				own(c.Config)
				return c, nil
			})
		},
		func(ctx context.Context, r *rand.Rand) error {
			p, err := w.s.PlanCreate(ctx, admin, "default", api.InstancesPost{Name: "copy", Source: api.InstanceSource{Type: "copy", Source: name(r)}})
			if err != nil {
				return err
			}
			return w.s.Create(ctx, p, nil)
		},
		func(ctx context.Context, r *rand.Rand) error { // there and back
			from, to := name(r), "copy"
			if r.IntN(3) == 0 {
				from, to = to, from
			}
			p, err := w.s.PlanCreate(ctx, admin, "default", api.InstancesPost{Name: to, Source: api.InstanceSource{Type: "copy", Source: from, Refresh: true}})
			if err != nil {
				return err
			}
			return w.s.Create(ctx, p, nil)
		},
		func(ctx context.Context, _ *rand.Rand) error { return w.s.Delete(ctx, "default", "copy", nil) },
		func(ctx context.Context, r *rand.Rand) error {
			i, err := w.s.Load(ctx, "default", name(r))
			if err != nil {
				return err
			}
			f, err := w.s.OpenFiles(ctx, i)
			if err == nil {
				err = f.Close()
			}
			return err
		},
		func(ctx context.Context, r *rand.Rand) error {
			i, err := w.s.Load(ctx, "default", name(r))
			if err != nil {
				return err
			}
			o, err := w.s.PlanBackup(ctx, i, instance.NewBackup{InstanceOnly: true, Compression: "none"})
			if err == nil {
				_, err = w.s.CreateBackup(ctx, "default", i.Name, o, nil)
			}
			return err
		},
		func(_ context.Context, r *rand.Rand) error { // the guest's own will
			if g := w.guest("c1"); g != nil && r.IntN(2) == 0 {
				g.Reboot()
			} else if g != nil {
				g.Halt()
			}
			return nil
		},
		func(ctx context.Context, _ *rand.Rand) error { return w.s.KeepFiles(ctx) },
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	odd := map[string]bool{}
	for n := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(n)))
			for range 120 {
				do, impatient := requests[r.IntN(len(requests))], r.IntN(8) == 0
				o, err := w.ops.Start(t.Context(), op.Spec{Run: func(ctx context.Context, _ *op.Operation) error { return do(ctx, r) }})
				if err != nil {
					t.Error(err)
					return
				}
				if impatient {
					_ = o.Cancel()
				}
				<-o.Done()
				if err := o.Err(); errs.Status(err) == 500 && err != nil {
					mu.Lock()
					odd[err.Error()] = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for text := range odd {
		t.Errorf("no reason that helps: %s", text)
	}
	all, err := w.s.List(t.Context(), "")
	w.ok(err)
	for _, i := range all {
		unlock, err := w.s.Locks.Lock(t.Context(), "test", i.Ref()) // a reboot may be under way
		w.ok(err)
		unlock()
		if st := w.s.State(i.ID); st != instance.Stopped {
			if st == instance.Frozen {
				w.ok(w.s.Unfreeze(t.Context(), "default", i.Name, nil))
			}
			w.ok(w.s.Stop(t.Context(), "default", i.Name, instance.StopOptions{Force: true}, nil))
		}
		w.ok(w.s.Start(t.Context(), "default", i.Name, nil))
		w.ok(w.s.Stop(t.Context(), "default", i.Name, instance.StopOptions{Force: true}, nil))
		w.ok(w.s.Delete(t.Context(), "default", i.Name, nil))
	}
	if held := w.s.Locks.Held(); len(held) != 0 {
		t.Errorf("held: %v", held)
	}
	w.clean()
	if joined, used := w.nics.holds(); joined+used != 0 {
		t.Errorf("%d devices joined, %d in use", joined, used)
	}
}
