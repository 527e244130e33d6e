// Package sysctl reads and writes kernel settings below /proc/sys.
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const root = "/proc/sys"

// Get reads one setting, "net/ipv4/ip_forward".
func Get(name string) (string, error) {
	v, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", name, err)
	}
	return strings.TrimSpace(string(v)), nil
}

// Set writes one setting. It writes only what differs, so that a host where the
// tree is read-only but right will do.
func Set(name, value string) error {
	if have, err := Get(name); err == nil && have == value {
		return nil
	}
	if err := os.WriteFile(filepath.Join(root, name), []byte(value), 0); err != nil {
		return fmt.Errorf("write sysctl %s: %w", name, err)
	}
	return nil
}

// SetIfPresent is Set where a kernel that lacks the setting is content with that.
func SetIfPresent(name, value string) error {
	err := Set(name, value)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Names lists the folder of a group of settings, "net/ipv6/conf".
func Names(dir string) ([]string, error) {
	es, err := os.ReadDir(filepath.Join(root, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sysctl %s: %w", dir, err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out, nil
}
