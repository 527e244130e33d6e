package instance

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/host/idmap"
	"sett/lxd/instance/template"
	"sett/lxd/op"
)

// refreshed makes an instance what its origin is now: content and snapshots. What it says
// of itself, devices and configuration, stays. Snapshots that the origin lacks go last, so
// that a refresh that fails has taken nothing but what it put in place of it.
func (s *Service) refreshed(ctx context.Context, p *Plan, by *event.Requestor) error {
	i, o := p.refresh, p.from
	s.Locks.Retitle(op.Doing(ctx, "refresh"), i.Ref())
	if err := s.settle(ctx, i); err != nil {
		return err
	}
	v, root, err := volume(i)
	if err != nil {
		return err
	}
	size, err := rootSize(root)
	if err != nil {
		return err
	}
	src, _, err := volume(o.instance)
	if err != nil {
		return err
	}
	var add, drop []*Snapshot
	if !o.only {
		have, err := s.Snapshots(ctx, i)
		if err != nil {
			return err
		}
		add, drop = missing(o.snaps, have)
	}
	if err := s.unread(i); err != nil { // before any snapshot goes
		return err
	}
	l := s.liveOf(i.ID)
	defer l.shutFiles(anyFiles)()
	taken := map[string]bool{}
	for _, sn := range add {
		taken[sn.Name] = true
	}
	for _, sn := range drop {
		if taken[sn.Name] { // another one of its name comes in place of it
			if err := s.dropSnapshot(ctx, i, v, sn, by, nil); err != nil {
				return err
			}
		}
	}
	c := s.copyOf(o, add, size, p.count)
	if c.Ready, err = s.shifted(i, o); err != nil {
		return err
	}
	l.keeping.Lock()
	defer l.keeping.Unlock()
	if err := s.Storage.Refresh(ctx, v, src, c); err != nil {
		return err
	}
	// The content has changed; from here on there is no way back.
	ctx, end := op.Insist(ctx)
	defer end()
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := copySnapshots(ctx, tx, i, o.instance, c.Snapshots); err != nil {
			return err
		}
		if i.Config[volApply] != "" {
			return nil
		}
		return patch(ctx, tx, i.ID, map[string]string{volApply: template.Copy})
	})
	if err != nil {
		all := []error{err}
		for _, name := range c.Snapshots {
			all = append(all, s.Storage.DeleteSnapshot(ctx, v, name))
		}
		return errors.Join(all...)
	}
	for _, sn := range drop {
		if taken[sn.Name] {
			continue
		}
		if err := s.dropSnapshot(ctx, i, v, sn, by, nil); err != nil {
			return err
		}
	}
	if id := done(ctx, nil); id != nil {
		if err := s.patchConfig(ctx, i, id); err != nil {
			return err
		}
	}
	l.pair(o)
	s.tell("instance-updated", i, by, nil)
	return nil
}

// shifted makes the ids in a fresh copy those that are noted of the instance's disk, if
// they are others; so the note is right at any time.
func (s *Service) shifted(i *Instance, o *origin) (func(context.Context, string) error, error) {
	now := i.Config[volDiskMap]
	if now == "" {
		now = "[]"
	}
	if now == o.diskMap() {
		return nil, nil
	}
	from, err := idmap.Parse(o.diskMap())
	if err != nil {
		return nil, err
	}
	to, err := idmap.Parse(now)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, dir string) error {
		return s.IDs.Shift(ctx, filepath.Join(dir, "rootfs"), from, to)
	}, nil
}

// noted is what the daemon has noted of an instance.
func noted(c map[string]string) map[string]string {
	c = maps.Clone(c)
	maps.DeleteFunc(c, func(k, _ string) bool {
		return !strings.HasPrefix(k, volatilePrefix) || strings.HasPrefix(k, "volatile.sett_")
	})
	return c
}

// twinTime is how soon after a refresh those clients write.
const twinTime = time.Minute

// pair keeps what was noted of the origin of a refresh, for keepOwn.
func (l *live) pair(o *origin) {
	l.mu.Lock()
	l.twin, l.twinned = noted(o.instance.Config), time.Now()
	l.mu.Unlock()
}

// keepOwn is for the clients that end a refresh by writing all that the origin says over
// what the copy says, as LXD's do: it leaves the copy what is its own, such as its
// addresses and the ids on its disk. It counts for one update soon after a refresh, and
// tells whether this is it.
func (l *live) keepOwn(now, asked map[string]string) (map[string]string, bool) {
	l.mu.Lock()
	twin, at := l.twin, l.twinned
	l.twin = nil
	l.mu.Unlock()
	if twin == nil || time.Since(at) > twinTime {
		return asked, false
	}
	asked = maps.Clone(asked)
	// The origin may have been started or stopped since the client looked at it.
	maps.DeleteFunc(asked, func(k, _ string) bool { return ofGuest(k) })
	for k, v := range noted(now) {
		if w, ok := asked[k]; ofGuest(k) || !ok && twin[k] == "" || ok && w == twin[k] {
			asked[k] = v
		}
	}
	for k, v := range twin {
		if _, ok := now[k]; !ok && asked[k] == v {
			delete(asked, k)
		}
	}
	return asked, true
}

// keepPool does the same for the root disk, which stays in its pool.
func keepPool(now, n *Instance) error {
	if samePool(now, n) == nil {
		return nil
	}
	name, root, err := rootDevice(now.ExpandedDevices())
	if err != nil {
		return err
	}
	if other, _, err := rootDevice(n.ExpandedDevices()); err == nil && n.Devices[other] != nil {
		delete(n.Devices, other)
	}
	n.Devices[name], n.expandedDevices = maps.Clone(root), nil
	return nil
}
