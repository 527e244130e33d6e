// Package operation is "lxc operation".
package operation
