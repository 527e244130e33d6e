package btrfs

import (
	"context"
	"encoding/hex"
	"errors"
	"io"

	"sett/lxd/host/btrfs"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

// Sendable implements driver.Streamer.
func (p *pool) Sendable(dir string) error {
	d, err := btrfs.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Streams of what is inside would have to come along, each with its place.
	if more, err := d.HasNested(); err != nil || more {
		return errors.Join(err, errs.Invalid("The volume holds btrfs subvolumes that were made inside the instance, which the optimized format cannot hold; leave it out"))
	}
	return nil
}

// Send implements driver.Streamer.
func (p *pool) Send(ctx context.Context, dir, parent string, w io.Writer) error {
	if err := p.Sendable(dir); err != nil {
		return err
	}
	d, err := btrfs.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if parent == "" {
		return d.Send(ctx, nil, w)
	}
	from, err := btrfs.Open(parent)
	if err != nil {
		return err
	}
	defer from.Close()
	return d.Send(ctx, &from, w)
}

// Mark implements driver.Streamer.
func (p *pool) Mark(dir string) (string, error) {
	d, err := btrfs.Open(dir)
	if err != nil {
		return "", err
	}
	defer d.Close()
	m, err := d.Mark()
	h := hex.EncodeToString(m[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], err
}

// Receive implements driver.Streamer.
func (p *pool) Receive(ctx context.Context, v driver.Volume, r io.Reader, came map[string]string, check driver.Filler) error {
	return p.CreateBy(ctx, v, func(ctx context.Context, path string, limit func() error) error {
		var self btrfs.Mark
		base := func(m btrfs.Mark) (string, bool) {
			dir, ok := came[string(m[:])]
			return dir, ok
		}
		err := at(path, func(d btrfs.Dir, name string) (err error) {
			self, err = btrfs.Receive(ctx, d, name, r, base, limit)
			return err
		})
		if err == nil {
			came[string(self[:])] = p.Path(v)
		}
		return err
	}, check)
}
