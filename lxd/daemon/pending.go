package daemon

import (
	"context"

	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

var errPending = errs.NotImplemented("not implemented")

// pendingStorage stands where pools and images will be.
type pendingStorage struct{}

func (pendingStorage) Start(context.Context)                   {}
func (pendingStorage) CheckPool(context.Context, string) error { return errPending }
func (pendingStorage) CreateFromImage(context.Context, instance.Volume, string, int64) error {
	return errPending
}
func (pendingStorage) CreateEmpty(context.Context, instance.Volume, int64) error { return errPending }
func (pendingStorage) Delete(context.Context, instance.Volume) error             { return errPending }
func (pendingStorage) Rename(context.Context, instance.Volume, string) error     { return errPending }
func (pendingStorage) Mount(context.Context, instance.Volume) (string, error) {
	return "", errPending
}
func (pendingStorage) Unmount(context.Context, instance.Volume) error        { return errPending }
func (pendingStorage) SetSize(context.Context, instance.Volume, int64) error { return errPending }
func (pendingStorage) Usage(context.Context, []instance.Volume) (map[instance.Volume]int64, error) {
	return nil, nil
}
func (pendingStorage) Resolve(context.Context, string, api.InstanceSource) (instance.Image, error) {
	return instance.Image{}, errPending
}
func (pendingStorage) Used(context.Context, string, string) error { return nil }

type pendingNetworks struct{}

func (pendingNetworks) Start(context.Context) {}
