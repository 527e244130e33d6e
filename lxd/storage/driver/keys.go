package driver

import (
	"strings"

	"sett/lxd/config"
	"sett/shared/errs"
	"sett/shared/units"
)

// Keys that pools of all kinds have.
var (
	Source = config.String("source", "", config.Local(), config.Fixed(),
		config.Doc("Path, block device or file that the pool lives on"))
	InitialSource = config.String("volatile.initial_source", "", config.Local(), config.Fixed(), config.Volatile(),
		config.Doc("Source that was given when the pool was made"))
	RsyncBWLimit     = config.Unbuilt("rsync.bwlimit", config.Doc("Highest rate of transfers between pools or servers"))
	RsyncCompression = config.Unbuilt("rsync.compression", config.Doc("Whether transfers are compressed"))
)

// Keys that volumes of all kinds have.
var (
	Size = config.New("size", "size", int64(0), "", units.ParseByteSizeString, config.Live(),
		config.Doc("Limit of the volume's size"))
	SecurityShifted = config.Bool("security.shifted", false,
		config.Doc("Let instances with different id maps share the volume"))
	SecurityUnmapped = config.Bool("security.unmapped", false,
		config.Doc("Do not map the ids of the volume"))
	SnapshotsExpiry   = config.String("snapshots.expiry", "", config.Live(), config.Doc("Age at which snapshots go"))
	SnapshotsSchedule = config.String("snapshots.schedule", "", config.Live(), config.Doc("When snapshots are taken"))
	SnapshotsPattern  = config.String("snapshots.pattern", "snap%d", config.Live(), config.Doc("Names of snapshots"))
	IDMapLast         = config.String("volatile.idmap.last", "", config.Volatile(), config.Doc("Id map of the content"))
	IDMapNext         = config.String("volatile.idmap.next", "", config.Volatile(), config.Doc("Id map of the next use"))
	User              = config.Any("user.*", config.Live(), config.Doc("Free keys"))
)

// CommonPoolKeys are the keys that every pool takes.
func CommonPoolKeys() config.Table {
	return config.NewTable(Source, InitialSource, RsyncBWLimit, RsyncCompression, User)
}

// CommonVolumeKeys are the keys that every volume of a type takes.
func CommonVolumeKeys(t VolumeType) config.Table {
	switch t {
	case Custom:
		return config.NewTable(Size, SecurityShifted, SecurityUnmapped, SnapshotsExpiry, SnapshotsSchedule,
			SnapshotsPattern, IDMapLast, IDMapNext, User)
	case Image:
		return config.NewTable(Size)
	}
	return config.NewTable(Size, SnapshotsExpiry, SnapshotsSchedule, SnapshotsPattern, IDMapLast, IDMapNext, User)
}

// VolumePrefix is what turns a volume's key into a pool's.
const VolumePrefix = "volume."

// ValidatePool checks a pool's configuration against the keys of its kind, with
// the defaults for volumes that it carries.
func ValidatePool(k Kind, c map[string]string) error {
	own, vol := map[string]string{}, map[string]string{}
	for key, v := range c {
		if rest, ok := strings.CutPrefix(key, VolumePrefix); ok {
			vol[rest] = v
			continue
		}
		own[key] = v
	}
	if err := k.PoolKeys().Validate(own); err != nil {
		return err
	}
	if err := k.VolumeKeys(Custom).Validate(vol); err != nil {
		return errs.Wrap(errs.KindOf(err), wrapVolume{err})
	}
	return nil
}

type wrapVolume struct{ err error }

func (w wrapVolume) Error() string { return "Defaults for volumes: " + w.err.Error() }
func (w wrapVolume) Unwrap() error { return w.err }
