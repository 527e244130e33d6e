package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestEveryCommandOfLXDIsKnown walks the commands and flags of LXD 5.0's client, a line
// each: what scripts use is here, or is refused by name.
func TestEveryCommandOfLXDIsKnown(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/lxd-5.0-commands.txt")
	if err != nil {
		t.Fatal(err)
	}
	app := newApp()
	root := app.Root()
	for line := range strings.Lines(string(text)) {
		path, flags, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if slices.ContainsFunc(app.NotBuilt, func(p string) bool { return path == p || strings.HasPrefix(path, p+" ") }) {
			continue
		}
		cmd, _, err := root.Find(strings.Fields(path))
		if err != nil || cmd.CommandPath() != "lxc "+path {
			t.Errorf("there is no %q", path)
			continue
		}
		for _, f := range strings.Fields(flags) {
			short, long, ok := strings.Cut(f, "/--")
			if !ok {
				short, long = "", strings.TrimPrefix(f, "--")
			}
			have := cmd.Flags().Lookup(long)
			if have == nil {
				have = cmd.InheritedFlags().Lookup(long)
			}
			if have == nil || have.Shorthand != strings.TrimPrefix(short, "-") {
				t.Errorf("%q has no %s", path, f)
			}
		}
	}
}

// What is refused must not stand in the way of what is built.
func TestNothingIsThereTwice(t *testing.T) {
	t.Parallel()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		names := map[string]bool{}
		for _, sub := range c.Commands() {
			for _, n := range append(sub.Aliases, sub.Name()) {
				if names[n] {
					t.Errorf("%q is there twice", c.CommandPath()+" "+n)
				}
				names[n] = true
			}
			walk(sub)
		}
	}
	walk(newApp().Root())
}
