package template

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"gopkg.in/yaml.v2"

	"sett/lxd/host/inside"
	"sett/lxd/host/render"
	"sett/shared/api"
	"sett/shared/errs"
)

const (
	metadataFile = "metadata.yaml"
	folder       = "templates"
	// MaxMetadata is how long a metadata.yaml may be.
	MaxMetadata = 1 << 20
	maxFiles    = 1024
)

// Volume is the folder of an instance in its pool.
type Volume struct{ root *inside.Root }

// Open opens the folder of an instance.
func Open(dir string) (*Volume, error) {
	r, err := inside.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Volume{r}, nil
}

// Close lets go of the folder.
func (v *Volume) Close() error { return v.root.Close() }

// Metadata reads metadata.yaml. An instance that was made without an image has none,
// and gets an empty one.
func (v *Volume) Metadata() (api.ImageMetadata, error) {
	var m api.ImageMetadata
	b, err := v.MetadataText()
	if err != nil {
		return m, err
	}
	if err := yaml.Unmarshal(b, &m); err != nil {
		return m, errs.Invalid("The instance's metadata.yaml cannot be read: %v", err)
	}
	return m, nil
}

// MetadataText is metadata.yaml as it stands there; empty where there is none.
func (v *Volume) MetadataText() ([]byte, error) {
	b, err := v.root.Read(metadataFile, MaxMetadata)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Invalid("The instance's metadata.yaml cannot be read: %v", err)
	}
	return b, nil
}

// SetMetadata replaces metadata.yaml.
func (v *Volume) SetMetadata(m api.ImageMetadata) error {
	for path, t := range m.Templates {
		if t == nil {
			return errs.Invalid("The template of %q is empty", path)
		}
		if err := CheckName(t.Template); err != nil {
			return err
		}
	}
	b, err := yaml.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > MaxMetadata {
		return errs.TooLarge("The metadata is longer than %d bytes", MaxMetadata)
	}
	return v.root.Write(metadataFile, b, 0o644)
}

// CheckName refuses names that would lead out of the folder of templates.
func CheckName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 200 || strings.ContainsAny(name, "/\x00") {
		return errs.Invalid("Invalid template name %q: it must be a file name without slashes", name)
	}
	return nil
}

// Names lists the templates in order.
func (v *Volume) Names() ([]string, error) {
	d, err := v.root.Sub(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{}, nil
	}
	if err != nil {
		return nil, strange(err)
	}
	defer func() { _ = d.Close() }()
	names, err := d.Names()
	if names == nil {
		names = []string{}
	}
	return names, err
}

// Template reads one template.
func (v *Volume) Template(name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	b, err := v.root.Read(folder+"/"+name, render.MaxSource)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.NotFound("Template %q not found", name)
	}
	return b, strange(err)
}

// SetTemplate makes or replaces a template.
func (v *Volume) SetTemplate(name string, source []byte) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if len(source) > render.MaxSource {
		return errs.TooLarge("The template is longer than %d bytes", render.MaxSource)
	}
	names, err := v.Names()
	if err != nil {
		return err
	}
	if len(names) >= maxFiles && !slices.Contains(names, name) {
		return errs.Invalid("The instance has %d templates already", len(names))
	}
	if err := v.root.Mkdir(folder, 0o711); err != nil {
		return err
	}
	d, err := v.root.Sub(folder)
	if err != nil {
		return strange(err)
	}
	defer func() { _ = d.Close() }()
	return d.Write(name, source, 0o644)
}

// DeleteTemplate removes a template.
func (v *Volume) DeleteTemplate(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	d, err := v.root.Sub(folder)
	if err == nil {
		defer func() { _ = d.Close() }()
		err = d.Remove(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errs.NotFound("Template %q not found", name)
	}
	return strange(err)
}

// strange explains what only an image made by hand brings about.
func strange(err error) error {
	switch {
	case errors.Is(err, inside.ErrNotRegular), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EXDEV):
		return errs.Invalid("The instance's templates are not plain files in a plain folder: %v", err)
	case errors.Is(err, inside.ErrTooLarge):
		return errs.Invalid("A template of the instance is longer than %d bytes: %v", render.MaxSource, err)
	}
	return err
}
