package disk

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"sett/lxd/config"
	"sett/lxd/container"
	"sett/lxd/device"
	"sett/shared/errs"
	"sett/shared/undo"
	"sett/shared/units"
)

var (
	target      = config.String("path", "", config.Check(checkTarget), config.Doc("Where the disk appears inside the instance"))
	source      = config.String("source", "", config.Check(checkSource), config.Doc("Folder or file of the host that appears inside"))
	pool        = config.String("pool", "", config.Doc("Storage pool of the root disk"))
	size        = config.String("size", "", config.Live(), config.Check(checkSize), config.Doc("Limit of the root disk, in bytes or with a unit"))
	readonly    = config.Bool("readonly", false, config.Doc("Whether the instance may only read"))
	required    = config.Bool("required", true, config.Doc("Whether the instance refuses to start when the source is missing"))
	optional    = config.Bool("optional", false, config.Doc("Old name for the opposite of required"))
	recursive   = config.Bool("recursive", false, config.Doc("Whether file systems mounted inside the source appear too"))
	shift       = config.Bool("shift", false, config.Doc("Whether the ids of files are mapped, so that root inside owns what root owns on the host"))
	propagation = config.Enum("propagation", "private", []string{"private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"},
		config.Doc("How mounts below the disk are shared with the host"))
)

// unbuilt are keys of LXD's disks that this build refuses by name.
var unbuilt = []string{"limits.read", "limits.write", "limits.max", "size.state", "raw.mount.options", "boot.priority", "ceph.*"}

// Kind is the disk.
type Kind struct{}

// Name implements device.Kind.
func (Kind) Name() string { return "disk" }

// Keys implements device.Kind.
func (Kind) Keys(context.Context, device.Services, string, device.Config) (config.Table, error) {
	ks := []config.Declared{target, source, pool, size, readonly, required, optional, recursive, shift, propagation}
	for _, k := range unbuilt {
		ks = append(ks, config.Unbuilt(k))
	}
	return config.NewTable(ks...), nil
}

// Check implements device.Kind.
func (Kind) Check(_ context.Context, _ device.Services, _ string, c device.Config) error {
	at, from := target.Get(c), source.Get(c)
	switch {
	case at == "":
		return errs.Invalid(`Disk entry is missing the required "path" property`)
	case at == "/" && pool.Get(c) == "":
		return errs.Invalid(`Root disk entry must have a "pool" property set`)
	case at == "/" && from != "":
		return errs.Invalid(`Root disk entry may not have a "source" property set`)
	case at == "/":
		return nil
	case pool.Get(c) != "":
		return errs.NotImplemented("Custom storage volumes are not implemented; give a path of the host as source, without a pool")
	case from == "":
		return errs.Invalid(`Disk entry is missing the required "source" or "path" property`)
	case size.Get(c) != "":
		return errs.Invalid("Only the root disk may have a size quota")
	case c[required.Name()] != "" && c[optional.Name()] != "":
		return errs.Invalid(`Cannot use both "required" and deprecated "optional" properties at the same time`)
	case strings.HasPrefix(propagation.Get(c), "r") && !recursive.Get(c):
		return errs.Invalid("A propagation of %q needs recursive=true", propagation.Get(c))
	}
	return nil
}

func checkTarget(v string) error {
	if v == "/" {
		return nil
	}
	if strings.Contains(v, "\x00") || strings.Contains(v, "\n") {
		return errs.Invalid("the path holds characters that cannot stand in one")
	}
	rel := strings.TrimPrefix(v, "/")
	if rel == "" || rel == "." || !filepath.IsLocal(rel) {
		return errs.Invalid("%q leads out of the instance", v)
	}
	return nil
}

func checkSource(v string) error {
	if strings.HasPrefix(v, "ceph:") || strings.HasPrefix(v, "cephfs:") || strings.HasPrefix(v, "tmpfs:") || strings.HasPrefix(v, "tmpfs-overlay:") || v == "cloud-init:config" {
		return errs.NotImplemented("Disks from %q are not implemented", v)
	}
	if !filepath.IsAbs(v) {
		return errs.Invalid("%q is not an absolute path of the host", v)
	}
	return nil
}

func checkSize(v string) error {
	if n, err := units.ParseByteSizeString(v); err != nil || n < 0 {
		return errs.Invalid("%q is not a size", v)
	}
	return nil
}

// HotPlug implements device.Kind.
func (Kind) HotPlug(c device.Config) bool { return target.Get(c) != "/" }

// New implements device.Kind.
func (Kind) New(env device.Env) (device.Device, error) { return &disk{env}, nil }

type disk struct{ env device.Env }

// inside is the target without its leading slash, the form that mounts take.
func (d *disk) inside() string { return path.Clean(strings.TrimPrefix(target.Get(d.env.Config), "/")) }

// Start implements device.Device. There is nothing to prepare on the host: the
// engine binds the source, in the instance's own mount namespace.
func (d *disk) Start(context.Context, *undo.Stack) (device.Plug, error) {
	c := d.env.Config
	// Links are followed here, and once more when it is mounted: a source is the word of an
	// administrator. What lies where a guest can write must not be one.
	from, err := filepath.EvalSymlinks(source.Get(c))
	if errors.Is(err, fs.ErrNotExist) {
		if !required.Get(c) || optional.Get(c) {
			return device.Plug{}, nil
		}
		return device.Plug{}, errs.Invalid("Missing source path %q for disk %q", source.Get(c), d.env.Name)
	}
	if err != nil {
		return device.Plug{}, err
	}
	fi, err := os.Stat(from)
	if err != nil {
		return device.Plug{}, err
	}
	m := container.Mount{Source: from, Target: d.inside(), FSType: "none", Idmapped: shift.Get(c) && !d.env.Instance.IDMap.Empty()}
	if m.Create, err = point(fi); err != nil {
		return device.Plug{}, err
	}
	if recursive.Get(c) {
		m.Options = append(m.Options, "rbind")
	} else {
		m.Options = append(m.Options, "bind")
	}
	if readonly.Get(c) {
		m.Options = append(m.Options, "ro")
	}
	if c[propagation.Name()] != "" {
		m.Options = append(m.Options, propagation.Get(c))
	}
	return device.Plug{Mounts: []container.Mount{m}}, nil
}

// point says what a source of this kind is mounted on. LXD mounts what is on a block
// device; the node itself would be of no use inside.
func point(fi fs.FileInfo) (container.Create, error) {
	switch {
	case fi.IsDir():
		return container.CreateDir, nil
	case fi.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice:
		return 0, errs.NotImplemented("%q is a block device; to mount what is on one is not implemented", fi.Name())
	}
	return container.CreateFile, nil
}

// Stop implements device.Device.
func (d *disk) Stop(context.Context) (device.Unplug, error) {
	return device.Unplug{Mounts: []string{d.inside()}}, nil
}

// PostStop implements device.Device: the mount went with its namespace.
func (d *disk) PostStop(context.Context) error { return nil }
