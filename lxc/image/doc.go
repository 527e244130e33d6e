// Package image is "lxc image".
package image
