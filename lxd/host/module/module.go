// Package module sees to it that the kernel has the modules that a guest needs: a
// guest cannot load any.
package module

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// Kernel is where modules are looked for; the zero value is this host's.
type Kernel struct {
	Root string // stands in for "/" in tests
	// Load is the program that loads a module; empty: modprobe.
	Load string
}

// patience is how long a module may take to load.
const patience = 30 * time.Second

// Parse reads a list of modules: "overlay, br_netfilter".
func Parse(list string) ([]string, error) {
	var out []string
	for _, name := range strings.Split(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		// It becomes an argument of a program and a part of a path.
		if len(name) > 64 || name[0] == '-' || strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
		}) {
			return nil, errs.Invalid("%q is not the name of a kernel module", name)
		}
		out = append(out, name)
	}
	return out, nil
}

// Need returns when the kernel has all the modules.
func (k Kernel) Need(ctx context.Context, names []string) error {
	for _, name := range names {
		if k.has(name) {
			continue
		}
		if err := k.load(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// has looks for a module that is loaded or part of the kernel.
func (k Kernel) has(name string) bool {
	sys := strings.ReplaceAll(name, "-", "_")
	if _, err := os.Stat(k.Root + "/sys/module/" + sys); err == nil {
		return true
	}
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	// Parts of the kernel without parameters have no folder.
	b, err := os.ReadFile(k.Root + "/lib/modules/" + unix.ByteSliceToString(u.Release[:]) + "/modules.builtin")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		file := strings.TrimSuffix(strings.TrimSpace(line[strings.LastIndexByte(line, '/')+1:]), ".ko")
		if strings.ReplaceAll(file, "-", "_") == sys {
			return true
		}
	}
	return false
}

func (k Kernel) load(ctx context.Context, name string) error {
	if _, err := os.Stat(k.Root + "/proc/modules"); errors.Is(err, os.ErrNotExist) {
		return errs.Invalid("Kernel module %q is not there, and this kernel cannot load modules", name)
	}
	program := k.Load
	if program == "" {
		program = "modprobe"
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var said bytes.Buffer
	c := exec.CommandContext(ctx, program, "--use-blacklist", name)
	c.Stderr, c.WaitDelay = &said, time.Second
	if err := c.Run(); err != nil {
		text := strings.TrimSpace(said.String())
		if text == "" {
			text = err.Error()
		}
		return errs.Invalid("Kernel module %q cannot be loaded on this server: %s", name, text)
	}
	return nil
}
