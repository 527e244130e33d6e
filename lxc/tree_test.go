package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
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

// TestExamplesAreWellFormed runs the examples of all commands, with a server that cannot
// be reached: what they ask for must get that far.
func TestExamplesAreWellFormed(t *testing.T) {
	t.Parallel()
	conf := t.TempDir()
	writeConf(t, conf, filepath.Join(conf, "none"))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	seen := 0
	example := func(c *cobra.Command, line string) {
		_, line, ok := strings.Cut(" "+line, " lxc ") // what is piped in comes before
		if !ok {
			t.Errorf("%s: %q is no command line of lxc", c.CommandPath(), line)
			return
		}
		args, err := cli.Words(line)
		if err != nil {
			t.Fatal(err)
		}
		if shell := slices.IndexFunc(args, func(w string) bool { return w == "<" || w == ">" || w == "|" }); shell >= 0 {
			args = args[:shell]
		}
		if args[0] == "remote" && args[1] == "add" {
			return // would look for the server
		}
		seen++
		var stdout, stderr bytes.Buffer
		app := newApp()
		app.In, app.Out, app.Err = strings.NewReader(""), &stdout, &stderr
		app.Getenv = func(key string) string {
			return map[string]string{"LXD_CONF": conf, "LXD_GLOBAL_CONF": conf, "LXD_SOCKET": filepath.Join(conf, "none")}[key]
		}
		app.Run(gone, args)
		for _, bad := range []string{"unknown", "Unknown", "nvalid", "Missing"} {
			if strings.Contains(stderr.String(), bad) {
				t.Errorf("%s: %q: %s", c.CommandPath(), line, stderr.String())
			}
		}
		if strings.Contains(stdout.String(), "Usage:") {
			t.Errorf("%s: %q only prints help", c.CommandPath(), line)
		}
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for line := range strings.SplitSeq(c.Example, "\n") {
			if line != "" && !strings.HasPrefix(line, " ") {
				example(c, line)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newApp().Root())
	if seen < 100 {
		t.Errorf("only %d examples were found", seen)
	}
}
