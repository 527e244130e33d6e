// Command gen writes the reference pages from the declarations in the code: the
// configuration keys, the routes of the API and its extensions. 'make doc' runs it,
// and a test compares its pages with those in doc/reference.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"sett/lxd/config"
	"sett/lxd/container"
	"sett/lxd/container/fake"
	"sett/lxd/daemon"
	"sett/lxd/device"
	devices "sett/lxd/device/all"
	"sett/lxd/host/idmap"
	"sett/lxd/instance"
	networks "sett/lxd/network/all"
	netdriver "sett/lxd/network/driver"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/lxd/server"
	storage "sett/lxd/storage/all"
	"sett/lxd/storage/driver"
)

const warning = "<!-- Written by 'make doc' from the declarations in the code. Change those. -->\n\n"

func main() {
	dir := "doc/reference"
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := write(dir); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	all, err := pages()
	if err != nil {
		return err
	}
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pages renders all pages: file name to content.
func pages() (map[string][]byte, error) {
	keys, err := configPage()
	if err != nil {
		return nil, err
	}
	routes, err := apiPage()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"config.md": keys, "api.md": routes}, nil
}

// section is one table of keys with its heading.
type section struct {
	title, text string
	table       config.Table
}

func sections() ([]section, error) {
	out := []section{
		{"Server", "`lxc config set KEY VALUE`", server.Keys()},
		{"Instances and profiles", "`lxc config set INSTANCE KEY VALUE`, `lxc profile set PROFILE KEY VALUE`", instance.Keys()},
		{"Projects", "", project.Keys()},
	}
	pools := storage.New()
	for _, n := range pools.Names() {
		k, err := pools.Kind(n)
		if err != nil {
			return nil, err
		}
		out = append(out, section{"Storage pools: " + n, "`lxc storage set POOL KEY VALUE`", k.PoolKeys()})
	}
	for _, d := range networks.Drivers(slog.New(slog.DiscardHandler)) {
		out = append(out, section{"Networks: " + d.Type(), "`lxc network set NETWORK KEY VALUE`", d.Keys(nil)})
	}
	// A nic has different keys by its variant; the others have one table each.
	variants := map[string][]device.Config{"nic": {{"nictype": "bridged", "parent": "br0"}, {"nictype": "p2p"}}}
	kinds := devices.Registry()
	for _, n := range kinds.Kinds() {
		cs := variants[n]
		if cs == nil {
			cs = []device.Config{{}}
		}
		for _, c := range cs {
			c["type"] = n
			k, err := kinds.Kind(n, c)
			if err != nil {
				return nil, err
			}
			t, err := k.Keys(context.Background(), device.Services{}, "default", c)
			if err != nil {
				return nil, fmt.Errorf("keys of device type %s: %w", n, err)
			}
			title := "Devices: " + n
			if c["nictype"] != "" {
				title += ", " + c["nictype"]
			}
			out = append(out, section{title, "`lxc config device set INSTANCE DEVICE KEY VALUE`", t})
		}
	}
	return out, nil
}

func configPage() ([]byte, error) {
	all, err := sections()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(warning + "# Configuration keys\n\n" +
		"*Live* keys take effect at once on what is running, the others at the next start. " +
		"*Fixed* keys are set when the object is made. A `*` stands for the rest of a name.\n")
	for _, s := range all {
		fmt.Fprintf(&b, "\n## %s\n\n", s.title)
		if s.text != "" {
			b.WriteString(s.text + "\n\n")
		}
		var refused []string
		rows := 0
		for _, k := range s.table.Keys() {
			if k.Refused != "" {
				refused = append(refused, "`"+k.Name+"`")
				continue
			}
			if rows++; rows == 1 {
				b.WriteString("| key | type | default | when | |\n|---|---|---|---|---|\n")
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Name, k.Type, code(k.Default), when(k), cell(k.Doc))
		}
		if rows == 0 {
			b.WriteString("None.\n")
		}
		if len(refused) > 0 {
			fmt.Fprintf(&b, "\nKnown to LXD and refused here, because they are not built: %s.\n", strings.Join(refused, ", "))
		}
	}
	return b.Bytes(), nil
}

func when(k config.Info) string {
	var out []string
	for word, is := range map[string]bool{"live": k.Live, "fixed": k.Fixed, "secret": k.Secret, "per member": k.Local} {
		if is {
			out = append(out, word)
		}
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// cell keeps a sentence in its cell of a table.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s)
}

func apiPage() ([]byte, error) {
	routes, err := routes()
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(routes, func(a, b rest.Route) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return verb(a.Method) - verb(b.Method)
	})
	var b bytes.Buffer
	b.WriteString(warning + "# REST API\n\n" +
		"*Caller*: who may use a route. `public`: anybody, who may be shown less. `trusted`: every known caller. " +
		"`view-project`, `edit-project`: known callers that are not kept out of the project. `admin`: callers without restrictions.\n\n" +
		"| method | path | | caller | in a project | extension |\n|---|---|---|---|---|---|\n")
	for _, r := range routes {
		scope := ""
		if r.Scope == rest.InProject {
			scope = "yes"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s |\n", r.Method, r.Path, cell(r.Summary), r.Need, scope, code(r.Extension))
	}
	ext := server.Extensions()
	b.WriteString("\n## Extensions announced\n\n")
	for _, e := range ext {
		fmt.Fprintf(&b, "- `%s`\n", e)
	}
	return b.Bytes(), nil
}

func verb(method string) int {
	return slices.Index([]string{"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"}, method)
}

// routes starts a daemon on fakes and asks it, so that no list of slices has to be
// kept here.
func routes() (_ []rest.Route, err error) {
	dir, err := os.MkdirTemp("", "sett-doc-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d, err := daemon.Start(context.Background(), daemon.Options{
		Dir:            dir,
		Engine:         func() (container.Engine, error) { return fake.New(), nil },
		StorageDrivers: driver.NewRegistry(),
		NetworkDrivers: func(*slog.Logger) []netdriver.Driver { return nil },
		IDs:            noIDs{},
		NoAutostart:    true,
	})
	if err != nil {
		return nil, err
	}
	out := d.Routes()
	d.Stop(false, true)
	<-d.Stopped()
	return out, d.Err()
}

// noIDs stands in for the host; no instance is ever started.
type noIDs struct{ instance.IDs }

func (noIDs) Map() (idmap.Map, error) { return idmap.Map{}, nil }
