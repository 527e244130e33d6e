// Package alias is "lxc alias": own names for command lines.
package alias
