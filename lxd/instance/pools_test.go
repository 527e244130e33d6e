package instance_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"

	"sett/lxd/db"
	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

// pools is storage in memory: a folder for each volume, and a count of its users.
type pools struct {
	mu     sync.Mutex
	dir    string
	vols   map[instance.Volume]int
	db     *db.DB
	during func()      // a snapshot
	before func()      // the moment that a copy shows, when it has begun
	noting sync.Mutex  // held for the next two, with or without mu
	idle   func() bool // of the last copy
	fail   map[string]error
	calls  []string
	size   map[instance.Volume]int64
	mounts int
	seen   int                          // users of snapshots
	lost   map[instance.Volume][]string // on disk, and the snapshots of it
	holds  int                          // volumes that are shown as they were
	meet   *sync.WaitGroup              // all who mount wait for each other

	brought []instance.Brought // with the last volume that was filled
}

func (p *pools) did(what string, v instance.Volume) error {
	p.noting.Lock()
	defer p.noting.Unlock()
	p.calls = append(p.calls, what+" "+v.Instance)
	err := p.fail[what]
	delete(p.fail, what)
	return err
}

func (p *pools) CheckPool(_ context.Context, name string) error {
	if name != "pool" && name != "other" {
		return errs.NotFound("Storage pool %q not found", name)
	}
	return nil
}

// at is the folder of a volume.
func (p *pools) at(v instance.Volume) string {
	if v.Pool == "pool" {
		return filepath.Join(p.dir, v.Instance)
	}
	return filepath.Join(p.dir, "."+v.Pool, v.Instance)
}

func (p *pools) create(v instance.Volume) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("create", v); err != nil {
		return err
	}
	p.vols[v] = 0
	return os.MkdirAll(filepath.Join(p.at(v), "rootfs"), 0o755)
}

func (p *pools) CreateFromImage(_ context.Context, v instance.Volume, _ string, _ int64) error {
	return p.create(v)
}

func (p *pools) CreateEmpty(_ context.Context, v instance.Volume, _ int64) error { return p.create(v) }

func (p *pools) CreateFilled(ctx context.Context, v instance.Volume, b instance.Bringing, fill func(context.Context, []string) error) error {
	size, snaps := b.Size, b.Snapshots
	if err := p.create(v); err != nil {
		return err
	}
	dir := p.at(v)
	dirs := []string{dir}
	err := os.Remove(filepath.Join(dir, "rootfs"))
	for _, sn := range snaps {
		dirs = append(dirs, p.mounted(v, sn.Name))
		err = errors.Join(err, os.MkdirAll(p.mounted(v, sn.Name), 0o700))
		defer os.RemoveAll(p.mounted(v, sn.Name))
	}
	p.mu.Lock()
	p.size[v], p.brought = size, snaps
	p.mu.Unlock()
	if err == nil {
		err = fill(ctx, dirs)
	}
	if err == nil {
		err = p.fillSnapshots(v, snaps)
	}
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.vols, v)
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}

func (p *pools) Hold(ctx context.Context, v instance.Volume, quiet func(context.Context) (func(), error)) (string, func(), error) {
	if quiet != nil {
		resume, err := quiet(ctx)
		if err != nil {
			return "", nil, err
		}
		resume()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("hold", v); err != nil {
		return "", nil, err
	}
	p.holds++
	return p.at(v), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.holds--
	}, nil
}

func (p *pools) Describe(_ context.Context, name string) (api.StoragePool, error) {
	a := api.StoragePool{Name: name, Driver: "dir", Status: "Created", Locations: []string{"none"}}
	a.Config = map[string]string{"source": p.dir}
	return a, nil
}

// Look finds the folders that lost says are no one's.
func (p *pools) Look(_ context.Context, post api.StoragePoolsPost) (*instance.LostPool, error) {
	out := &instance.LostPool{Pool: post, Close: func() {}, Adopt: func(context.Context, api.StoragePoolsPost) error { return nil }}
	out.Pool.Driver = "dir"
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("look", instance.Volume{}); err != nil {
		return nil, err
	}
	for v, snaps := range p.lost {
		l := instance.LostVolume{Volume: v, Dir: p.at(v), Snapshots: map[string]string{}}
		for _, n := range snaps {
			l.Snapshots[n] = filepath.Join(p.dir, ".none")
		}
		out.Volumes = append(out.Volumes, l)
	}
	return out, nil
}

func (p *pools) Adopt(ctx context.Context, v instance.Volume, _ []instance.Brought, also func(context.Context, *db.Tx) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("adopt", v); err != nil {
		return err
	}
	if err := p.db.Update(ctx, also); err != nil {
		return err
	}
	delete(p.lost, v)
	p.vols[v] = 0
	return nil
}

func (p *pools) Disown(_ context.Context, v instance.Volume) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.vols, v)
	p.lost[v] = nil
	return nil
}

func (p *pools) Send(context.Context, string, string, string, io.Writer) (string, error) {
	return "", errs.NotImplemented("There is no optimized format")
}

func (p *pools) Receive(context.Context, instance.Volume, instance.Bringing, func(context.Context, string) (io.ReadCloser, error), func(context.Context, string) error) error {
	return errs.NotImplemented("There is no optimized format")
}

func (p *pools) Alter(ctx context.Context, v instance.Volume, size int64, do func(context.Context, string) error) error {
	p.mu.Lock()
	err := p.did("alter", v)
	p.size[v] = size
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return do(ctx, p.at(v))
}

func (p *pools) CanSend(context.Context, instance.Volume) error {
	return errs.NotImplemented("There is no optimized format")
}

func (p *pools) Sendable(context.Context, string, ...string) error {
	return errs.NotImplemented("There is no optimized format")
}

// What goes from member to member is tested where there are whole members.

func (p *pools) TakeOver(context.Context, instance.Volume, instance.Volume, int64, func(context.Context, *db.Tx) error) error {
	return errs.NotImplemented("Nothing comes from elsewhere")
}

func (p *pools) GiveUp(context.Context, instance.Volume) (bool, error) { return false, nil }

func (p *pools) DropLeft(context.Context, instance.Volume) error { return nil }

func (p *pools) Left(context.Context) ([]instance.LeftVolume, error) { return nil, nil }

func (p *pools) CanReceive(context.Context, instance.Volume, string) error {
	return errs.NotImplemented("There is no optimized format")
}

func (p *pools) Exists(_ context.Context, v instance.Volume) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.vols[v]
	return ok, nil
}

func (p *pools) Delete(_ context.Context, v instance.Volume) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("delete", v); err != nil {
		return err
	}
	delete(p.vols, v)
	return errors.Join(os.RemoveAll(p.at(v)), os.RemoveAll(filepath.Dir(p.snap(v, "any"))))
}

func (p *pools) Rename(_ context.Context, v instance.Volume, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("rename", v); err != nil {
		return err
	}
	n := v
	n.Instance = to
	switch from, done := hasKey(p.vols, v), hasKey(p.vols, n); { // as drivers do it
	case from && done:
		return errs.Conflict("Storage volume %q already exists", to)
	case done:
		return nil
	}
	p.vols[n] = p.vols[v]
	delete(p.vols, v)
	if err := os.Rename(filepath.Dir(p.snap(v, "any")), filepath.Dir(p.snap(n, "any"))); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Rename(p.at(v), p.at(n))
}

func hasKey[K comparable, V any](m map[K]V, k K) bool { _, ok := m[k]; return ok }

func (p *pools) Mount(_ context.Context, v instance.Volume) (string, error) {
	if p.meet != nil {
		p.meet.Done()
		p.meet.Wait()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("mount", v); err != nil {
		return "", err
	}
	if !hasKey(p.vols, v) {
		return "", errs.NotFound("Storage volume %q not found", v.Instance)
	}
	p.vols[v]++
	return p.at(v), nil
}

func (p *pools) Unmount(_ context.Context, v instance.Volume) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if hasKey(p.vols, v) {
		p.vols[v]--
	}
	return p.did("unmount", v)
}

func (p *pools) SetSize(_ context.Context, v instance.Volume, n int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size[v] = n
	return p.did("size", v)
}

func (p *pools) Usage(context.Context, []instance.Volume) (map[instance.Volume]int64, error) {
	return map[instance.Volume]int64{}, nil
}
