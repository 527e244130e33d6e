// Package file is "lxc file".
package file
