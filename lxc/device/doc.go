// Package device holds the commands for devices, which instances and profiles
// share: "lxc config device" and "lxc profile device".
package device
