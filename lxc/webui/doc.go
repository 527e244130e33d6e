// Package webui is "lxc webui".
package webui
