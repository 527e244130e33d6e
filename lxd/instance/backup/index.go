package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"gopkg.in/yaml.v2"

	"sett/shared/api"
	"sett/shared/archive"
	"sett/shared/errs"
)

// The names in an archive.
const (
	IndexName   = "backup/index.yaml"
	Container   = "backup/container"
	HeaderName  = "backup/optimized_header.yaml"
	snapshotDir = "backup/snapshots/"
	// FileName is the file beside an instance's root file system.
	FileName = "backup.yaml"
)

// Snapshot is the folder of a snapshot in an archive.
func Snapshot(name string) string { return snapshotDir + name }

// Stream is the name of the driver's stream in place of a folder.
func Stream(folder string) string { return folder + ".bin" }

// Index is index.yaml.
type Index struct {
	Name      string   `yaml:"name"`
	Backend   string   `yaml:"backend"`
	Pool      string   `yaml:"pool"`
	Snapshots []string `yaml:"snapshots,omitempty"`
	// Optimized archives hold streams of the driver in place of files.
	Optimized       bool    `yaml:"optimized"`
	OptimizedHeader bool    `yaml:"optimized_header"`
	Type            string  `yaml:"type"`
	Config          *Config `yaml:"config,omitempty"` // older ones have it in backup.yaml only
}

// Config is backup.yaml: all that the database says of an instance.
type Config struct {
	Container       *api.Instance                `yaml:"container,omitempty"`
	Snapshots       []*api.InstanceSnapshot      `yaml:"snapshots,omitempty"`
	Pool            *api.StoragePool             `yaml:"pool,omitempty"`
	Profiles        []*api.Profile               `yaml:"profiles,omitempty"`
	Volume          *api.StorageVolume           `yaml:"volume,omitempty"`
	VolumeSnapshots []*api.StorageVolumeSnapshot `yaml:"volume_snapshots,omitempty"`
	// Scheduled are the snapshots that nobody took by hand, which LXD does not tell apart:
	// a retention policy prunes no others.
	Scheduled []string `yaml:"sett_scheduled,omitempty"`
}

// MaxSnapshots is how many snapshots a backup holds.
const MaxSnapshots = 1000

// maxText is how long these files may be. A snapshot takes about two kilobytes.
const maxText = 16 << 20

// maxBefore is how much of an archive may come before its index, unpacked. LXD puts it
// first.
const maxBefore = 64 << 20

// ReadIndex reads the index of an archive.
func ReadIndex(ctx context.Context, f *os.File) (*Index, error) {
	format, err := archive.DetectFile(f)
	if err != nil {
		return nil, errs.Invalid("This is no backup of an instance: it is not a tarball")
	}
	if format == archive.SquashFS {
		return nil, errs.NotImplemented("Backups in squashfs are not implemented; make them a tarball")
	}
	text, err := file(ctx, format, f, IndexName, maxBefore)
	if errs.Is(err, errs.KindNotFound) {
		return nil, errs.Invalid("Backup is missing index.yaml")
	}
	if err != nil {
		return nil, err
	}
	var x Index
	if err := decode(text, &x); err != nil {
		return nil, errs.Invalid("The backup's index.yaml is not right: %v", err)
	}
	switch {
	case x.Name == "":
		return nil, errs.Invalid("The backup's index.yaml names no instance")
	case x.Type == "virtual-machine":
		return nil, errs.NotImplemented("Virtual machines are not implemented")
	case x.Type != "" && x.Type != "container":
		return nil, errs.Invalid("The backup is of the unknown type %q", x.Type)
	case len(x.Snapshots) > MaxSnapshots:
		return nil, errs.Invalid("The backup holds %d snapshots; no more than %d can be imported", len(x.Snapshots), MaxSnapshots)
	}
	if x.Config == nil && !x.Optimized {
		text, err := file(ctx, format, f, Container+"/"+FileName, 1<<62)
		if err != nil {
			return nil, errs.Invalid("The backup has no configuration of the instance: %w", err)
		}
		if x.Config, err = Parse(text); err != nil {
			return nil, err
		}
	}
	if x.Config == nil || x.Config.Container == nil {
		return nil, errs.Invalid("The backup has no configuration of the instance")
	}
	return &x, x.Config.check()
}

// file reads one small file of an archive that comes not too late in it.
func file(ctx context.Context, format archive.Format, f *os.File, name string, before int64) ([]byte, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var text []byte
	err := archive.Walk(ctx, format, f, func(e archive.Entry, r io.Reader) error {
		if e.Name == name && !e.Dir && !e.Link {
			if e.Size > maxText {
				return errs.Invalid("%s is larger than %d bytes", name, maxText)
			}
			b, err := io.ReadAll(io.LimitReader(r, maxText))
			if err != nil {
				return errs.Invalid("The backup is broken: %w", err)
			}
			text = b
			return archive.ErrStop
		}
		if before -= e.Size + 512; before < 0 {
			return errs.Invalid("%s must come first in the archive", name)
		}
		return nil
	})
	if err == nil && text == nil {
		err = errs.NotFound("The backup has no %s", name)
	}
	return text, err
}

// Parse reads a backup.yaml.
func Parse(text []byte) (*Config, error) {
	var c Config
	if err := decode(text, &c); err != nil {
		return nil, errs.Invalid("backup.yaml is not right: %v", err)
	}
	return &c, c.check()
}

// maxParts bounds how many values one of these files holds. Each takes a few hundred bytes
// of memory, however few of the text. A snapshot has about ninety.
const maxParts = 300_000

// decode reads YAML that a stranger may have written.
func decode(text []byte, v any) error {
	parts := 0
	for _, b := range text {
		if b == '\n' || b == '\r' || b == ',' || b == '[' || b == '{' {
			parts++
		}
	}
	if parts > maxParts {
		return fmt.Errorf("it holds more than %d values", maxParts)
	}
	return yaml.Unmarshal(text, v)
}

// check refuses what would make those who read it stumble, and gives snapshots their own
// names: older versions wrote that of the instance in front.
func (c *Config) check() error {
	if c.Container == nil {
		return errs.Invalid("backup.yaml holds no instance")
	}
	for _, sn := range c.Snapshots {
		if sn == nil {
			return errs.Invalid("backup.yaml has an empty snapshot")
		}
		if _, own, ok := strings.Cut(sn.Name, "/"); ok {
			sn.Name = own
		}
	}
	return nil
}

// Find gives the snapshot of a name; nil if there is none.
func (c *Config) Find(name string) *api.InstanceSnapshot {
	for _, sn := range c.Snapshots {
		if sn.Name == name {
			return sn
		}
	}
	return nil
}

// Marshal is the text of an index or a Config.
func Marshal(v any) ([]byte, error) { return yaml.Marshal(v) }

// Load reads the backup.yaml in the folder of an instance, which may hold anything.
func Load(dir string) (*Config, error) {
	text, err := read(dir)
	if err != nil {
		return nil, err
	}
	return Parse(text)
}

func read(dir string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fi, err := root.Lstat(FileName)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxText {
		return nil, errs.Invalid("%s is no usable file", FileName)
	}
	return root.ReadFile(FileName)
}

// fresh is what the file is called until it is written.
const fresh = "." + FileName

// Keep writes backup.yaml into the folder of an instance, unless it says the same
// already.
func Keep(dir string, c *Config) error {
	text, err := Marshal(c)
	if err != nil {
		return err
	}
	if old, err := read(dir); err == nil && string(old) == string(text) {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	// An archive may have brought anything under these names.
	if err := root.RemoveAll(fresh); err != nil {
		return err
	}
	if fi, err := root.Lstat(FileName); err == nil && fi.IsDir() {
		if err := root.RemoveAll(FileName); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(fresh, FileName)
	}
	if err != nil {
		_ = root.Remove(fresh)
	}
	return err
}

// Forget removes what an archive has brought as backup.yaml.
func Forget(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return errors.Join(root.RemoveAll(fresh), root.RemoveAll(FileName))
}

// Header is optimized_header.yaml: what the driver's streams hold.
type Header struct {
	Subvolumes []Subvolume `yaml:"subvolumes"`
}

// Subvolume is one of a volume or, in a file of its own, of a snapshot. Path is its place
// in there.
type Subvolume struct {
	Path     string `yaml:"path"`
	Snapshot string `yaml:"snapshot"`
	ReadOnly bool   `yaml:"readonly"`
	UUID     string `yaml:"uuid"`
}
