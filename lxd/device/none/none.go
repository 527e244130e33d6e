// Package none is the device that is nothing: it takes the place of a device that
// a profile would bring along.
package none

import (
	"context"

	"sett/lxd/config"
	"sett/lxd/device"
	"sett/shared/undo"
)

// Kind is the kind "none".
type Kind struct{}

// New makes the kind.
func New() Kind { return Kind{} }

// Name is "none".
func (Kind) Name() string { return "none" }

// Keys are none.
func (Kind) Keys(context.Context, device.Services, string, device.Config) (config.Table, error) {
	return config.NewTable(), nil
}

// Check finds nothing wrong.
func (Kind) Check(context.Context, device.Services, string, device.Config) error { return nil }

// HotPlug is possible: there is nothing to plug.
func (Kind) HotPlug(device.Config) bool { return true }

// New makes the device.
func (Kind) New(device.Env) (device.Device, error) { return nothing{}, nil }

type nothing struct{}

func (nothing) Start(context.Context, *undo.Stack) (device.Plug, error) { return device.Plug{}, nil }
func (nothing) Stop(context.Context) (device.Unplug, error)             { return device.Unplug{}, nil }
func (nothing) PostStop(context.Context) error                          { return nil }
