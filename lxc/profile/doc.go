// Package profile is "lxc profile".
package profile
