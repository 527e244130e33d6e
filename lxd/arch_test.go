package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The ladder of imports. A package may import what stands on a lower level, and
// on its own level what the comment at that level allows. Paths are relative to
// the module; a trailing /... stands for a folder and all below it.
//
// kernel packages and slices are ordered lists: each may import those before it.
var (
	kernel = []string{
		"lxd/entity", "lxd/config", "lxd/lock", "lxd/task", "lxd/dqlite", "lxd/db",
		"lxd/event", "lxd/op", "lxd/auth", "lxd/cluster", "lxd/rest",
	}
	// The contracts, in the order in which one may know the other; each driver
	// family lives below the folder named beside it.
	contracts = []string{"lxd/container", "lxd/storage/driver", "lxd/network/driver", "lxd/device"}
	families  = map[string]string{ // folder of drivers -> its contract
		"lxd/container": "lxd/container",
		"lxd/storage":   "lxd/storage/driver",
		"lxd/network":   "lxd/network/driver",
		"lxd/device":    "lxd/device",
	}
	slicesInOrder = []string{
		"lxd/project", "lxd/certificate", "lxd/warning", "lxd/profile", "lxd/storage", "lxd/network",
		"lxd/image", "lxd/instance", "lxd/member", "lxd/server", "lxd/devlxd", "lxd/ui",
	}
	// Sub-packages of a slice that belong to it and not to its drivers.
	sliceParts = []string{"lxd/instance/"}

	top = []string{"lxd", "lxd/daemon", "lxd/cmd", "lxd/daemontest"}
)

type level int

const (
	lvShared level = iota
	lvKernel
	lvHost
	lvContract
	lvDriver
	lvSlice
	lvTop
	lvClient
	lvUnknown
)

func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func driverFamily(p string) string {
	for dir, c := range families {
		if under(p, dir) && p != dir && !under(p, c) || dir == c && p != dir && under(p, dir) {
			if slices.Contains(slicesInOrder, p) {
				return ""
			}
			return dir
		}
	}
	return ""
}

// place says on which level a package stands and how far along its list.
func place(p string) (level, int) {
	switch {
	case under(p, "shared"):
		return lvShared, 0
	case under(p, "client"), under(p, "lxc"):
		return lvClient, 0
	case under(p, "doc"), under(p, "test"):
		return lvTop, 0
	case slices.Contains(top, p) || under(p, "lxd/daemon") || under(p, "lxd/cmd") || under(p, "lxd/daemontest"):
		return lvTop, 0
	case under(p, "lxd/host"):
		return lvHost, 0
	case under(p, "lxd/shim"), under(p, "lxd/lxd-shim"):
		return lvHost, 1
	}
	for i, k := range kernel {
		if under(p, k) {
			return lvKernel, i
		}
	}
	for i, c := range contracts {
		if p == c || under(p, c) && c != "lxd/container" && c != "lxd/device" {
			return lvContract, i
		}
	}
	if driverFamily(p) != "" {
		return lvDriver, 0
	}
	for i, s := range slicesInOrder {
		if p == s || under(p, s) && slices.ContainsFunc(sliceParts, func(x string) bool { return strings.HasPrefix(p, x) }) || under(p, s) && families[s] == "" {
			return lvSlice, i
		}
	}
	return lvUnknown, 0
}

// mayImport is the ladder. It returns the reason of a refusal, or "".
func mayImport(from, to string) string {
	fl, fi := place(from)
	tl, ti := place(to)
	switch {
	case fl == lvUnknown || tl == lvUnknown:
		return "the ladder has no place for it"
	case tl == lvShared:
		return ""
	case fl == lvShared:
		return "shared packages import only shared"
	case fl == lvClient:
		if under(to, "client") || under(from, "lxc") && under(to, "lxc") {
			return ""
		}
		return "client and lxc never import the daemon"
	case tl == lvClient:
		if fl == lvTop {
			return ""
		}
		return "only the top of the ladder uses the client"
	case fl == lvTop:
		return ""
	case tl == lvTop:
		return "nothing imports the composition root"
	case fl == lvKernel:
		if tl == lvKernel && ti <= fi {
			return ""
		}
		return "kernel packages import only shared and earlier kernel packages"
	case fl == lvHost:
		if tl == lvHost && ti <= fi {
			return ""
		}
		return "host packages import only shared and host"
	case fl == lvContract || fl == lvDriver:
		if tl == lvHost || under(to, "lxd/config") || under(to, "lxd/entity") {
			return ""
		}
		if tl == lvContract {
			if fl == lvContract && ti <= fi {
				return ""
			}
			// Devices fill in the specification of a container.
			if fl == lvDriver && (to == families[driverFamily(from)] || under(to, families[driverFamily(from)])) {
				return ""
			}
			if driverFamily(from) == "lxd/device" && to == "lxd/container" {
				return ""
			}
			return "a driver knows its own contract only"
		}
		if tl == lvDriver && fl == lvDriver && driverFamily(from) == driverFamily(to) {
			return ""
		}
		if tl == lvDriver && fl == lvContract && families[driverFamily(to)] == to {
			return ""
		}
		return "contracts and drivers import shared, host, config, entity and their own contract"
	case fl == lvSlice:
		if tl == lvSlice && ti > fi {
			return "slices import only the slices before them"
		}
		if tl == lvDriver {
			return "a slice gets its drivers from the composition root"
		}
		return ""
	}
	return "not covered by the ladder"
}

type goFile struct {
	pkg, path string
	file      *ast.File
	fset      *token.FileSet
}

func sources(t *testing.T) []goFile {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	var out []goFile
	for _, dir := range []string{"lxd", "lxc", "shared", "client", "doc", "test"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata") {
				return fs.SkipDir
			}
			if d.IsDir() || filepath.Ext(path) != ".go" {
				return nil
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(root, path)
			out = append(out, goFile{pkg: filepath.ToSlash(filepath.Dir(rel)), path: rel, file: f, fset: fset})
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return out
}

func isTest(path string) bool { return strings.HasSuffix(path, "_test.go") }

// Test packages may reach where their subject may not: a conformance suite runs
// on the drivers, a slice test on the fakes. Packages named for tests count too.
func forTests(f goFile) bool {
	b := filepath.Base(f.pkg)
	return isTest(f.path) || strings.HasSuffix(b, "test") || b == "fake"
}

func TestImportsGoDownTheLadder(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		if forTests(f) {
			continue
		}
		for _, im := range f.file.Imports {
			to, _ := strconv.Unquote(im.Path.Value)
			to, ours := strings.CutPrefix(to, "sett/")
			if !ours {
				if f.pkg == "shared/api" && strings.Contains(strings.SplitN(to, "/", 2)[0], ".") {
					t.Errorf("%s: shared/api imports %s; it takes the standard library only", f.path, to)
				}
				continue
			}
			if f.pkg == "shared/api" {
				t.Errorf("%s: shared/api imports %s; it takes the standard library only", f.path, to)
			}
			if why := mayImport(f.pkg, to); why != "" {
				t.Errorf("%s imports %s: %s", f.path, to, why)
			}
		}
	}
}

func TestLadderRefusesTheWrongWay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"lxd/instance", "lxd/profile", true},
		{"lxd/profile", "lxd/instance", false},
		{"lxd/storage/btrfs", "lxd/storage/driver", true},
		{"lxd/storage/btrfs", "lxd/network/driver", false},
		{"lxd/storage/btrfs", "lxd/storage", false},
		{"lxd/storage/btrfs", "lxd/db", false},
		{"lxd/storage", "lxd/storage/btrfs", false},
		{"lxd/storage", "lxd/storage/driver", true},
		{"lxd/device/nic", "lxd/container", true},
		{"lxd/device/nic", "lxd/network/driver", false},
		{"lxd/container/lxc", "lxd/container", true},
		{"lxd/container/lxc", "lxd/shim", true},
		{"lxd/container/lxc", "lxd/rest", false},
		{"lxd/op", "lxd/event", true},
		{"lxd/event", "lxd/op", false},
		{"lxd/host/nft", "lxd/db", false},
		{"lxd/instance/exec", "lxd/instance", true},
		{"lxd/rest", "lxd/daemon", false},
		{"lxc/cli", "client", true},
		{"client", "lxd/rest", false},
		{"shared/errs", "lxd/db", false},
		{"lxd/daemon", "lxd/storage/all", true},
	} {
		if got := mayImport(c.from, c.to) == ""; got != c.ok {
			t.Errorf("%s -> %s: allowed %v, want %v (%s)", c.from, c.to, got, c.ok, mayImport(c.from, c.to))
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	has := map[string]bool{}
	for _, f := range sources(t) {
		if isTest(f.path) {
			continue
		}
		has[f.pkg] = has[f.pkg] || f.file.Doc != nil
	}
	for pkg, ok := range has {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

// cgoHomes are the only packages that may bind C; ownC the only one with C of ours.
var (
	cgoHomes = []string{"lxd/dqlite", "lxd/db/node", "lxd/container/lxc", "lxd/shim", "lxd/db/dbtest"}
	cgoPkgs  = []string{"github.com/canonical/go-dqlite", "github.com/lxc/go-lxc", "github.com/mattn/go-sqlite3"}
	ownC     = "lxd/shim/child/nsenter"
)

func TestBindingsToCStayHome(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		home := slices.ContainsFunc(cgoHomes, func(h string) bool { return under(f.pkg, h) })
		for _, im := range f.file.Imports {
			to, _ := strconv.Unquote(im.Path.Value)
			if to == "C" && f.pkg != ownC {
				t.Errorf("%s holds C; ours lives in %s", f.path, ownC)
			}
			if !home && slices.ContainsFunc(cgoPkgs, func(p string) bool { return under(to, p) }) {
				t.Errorf("%s imports %s outside of %v", f.path, to, cgoHomes)
			}
		}
	}
}

func TestBannedCalls(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		lv, at := place(f.pkg)
		names := map[string]string{} // local name -> import path
		for _, im := range f.file.Imports {
			to, _ := strconv.Unquote(im.Path.Value)
			n := to[strings.LastIndex(to, "/")+1:]
			if im.Name != nil {
				n = im.Name.Name
			}
			names[n] = to
			lowKernel := lv == lvKernel && at < slices.Index(kernel, "lxd/cluster")
			if to == "net/http" && !forTests(f) && (lowKernel || lv == lvHost || lv == lvContract || lv == lvDriver) {
				t.Errorf("%s imports net/http below cluster and rest", f.path)
			}
		}
		ast.Inspect(f.file, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			s, ok := c.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := s.X.(*ast.Ident)
			if !ok {
				return true
			}
			at := f.fset.Position(c.Pos())
			switch names[x.Name] + "." + s.Sel.Name {
			case "context.TODO":
				t.Errorf("%s: context.TODO", at)
			case "os/exec.Command", "os/exec.CommandContext":
				if strings.HasPrefix(f.pkg, "lxd") && lv != lvHost && !isTest(f.path) && !strings.HasSuffix(f.pkg, "test") && lv != lvTop {
					t.Errorf("%s: programs are run from host and shim only", at)
				}
			case "time.Sleep":
				if isTest(f.path) {
					t.Errorf("%s: tests wait on events, they do not sleep", at)
				}
			}
			return true
		})
		// Regular expressions compiled at package level cost every process its start.
		for _, d := range f.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR || isTest(f.path) || !strings.HasPrefix(f.pkg, "lxd") {
				continue
			}
			ast.Inspect(g, func(n ast.Node) bool {
				if _, ok := n.(*ast.FuncLit); ok {
					return false
				}
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "MustCompile" {
					t.Errorf("%s: regexp compiled at package level", f.fset.Position(s.Pos()))
				}
				return true
			})
		}
	}
}

// tableOwners: one table, one writer. The key is the table's prefix family.
var tableOwners = map[string]string{
	"config":                    "lxd/server",
	"nodes":                     "lxd/member",
	"nodes_config":              "lxd/member",
	"nodes_failure_domains":     "lxd/member",
	"projects":                  "lxd/project",
	"projects_config":           "lxd/project",
	"certificates":              "lxd/certificate",
	"certificates_projects":     "lxd/certificate",
	"warnings":                  "lxd/warning",
	"webui_links":               "lxd/ui",
	"webui_sessions":            "lxd/ui",
	"profiles":                  "lxd/profile",
	"profiles_config":           "lxd/profile",
	"profiles_devices":          "lxd/profile",
	"profiles_devices_config":   "lxd/profile",
	"storage_pools":             "lxd/storage",
	"storage_pools_config":      "lxd/storage",
	"storage_pools_nodes":       "lxd/storage",
	"storage_volumes":           "lxd/storage",
	"storage_volumes_config":    "lxd/storage",
	"storage_volumes_snapshots": "lxd/storage",
	"networks":                  "lxd/network",
	"networks_config":           "lxd/network",
	"networks_nodes":            "lxd/network",
	"images":                    "lxd/image",
	"images_aliases":            "lxd/image",
	"images_nodes":              "lxd/image",
	"images_profiles":           "lxd/image",
	"images_properties":         "lxd/image",
	"images_source":             "lxd/image",
	"instances":                 "lxd/instance",
	"instances_config":          "lxd/instance",
	"instances_devices":         "lxd/instance",
	"instances_devices_config":  "lxd/instance",
	"instances_profiles":        "lxd/instance",
	"instances_snapshots":       "lxd/instance",
	"operations_history":        "lxd/op/history",

	"nodes_roles":                        "lxd/member",
	"nodes_commits":                      "lxd/db",
	"storage_volumes_backups":            "lxd/storage",
	"storage_volumes_snapshots_config":   "lxd/storage",
	"instances_backups":                  "lxd/instance",
	"instances_snapshots_config":         "lxd/instance",
	"instances_snapshots_devices":        "lxd/instance",
	"instances_snapshots_devices_config": "lxd/instance",
}

func TestEveryTableHasAnOwner(t *testing.T) {
	t.Parallel()
	create := regexp.MustCompile(`(?m)^CREATE TABLE (?:IF NOT EXISTS )?(\w+)`)
	files, err := filepath.Glob(filepath.Join("db", "migrations", "global", "*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no migrations found (%v)", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range create.FindAllStringSubmatch(string(text), -1) {
			if tableOwners[m[1]] == "" {
				t.Errorf("%s makes the table %s, which has no owner", f, m[1])
			}
		}
	}
}

func TestOneTableHasOneWriter(t *testing.T) {
	t.Parallel()
	write := regexp.MustCompile(`(?i)\b(?:INSERT(?:\s+OR\s+\w+)?\s+INTO|UPDATE|DELETE\s+FROM|REPLACE\s+INTO)\s+([a-z_]+)`)
	returning := regexp.MustCompile(`(?i)\bRETURNING\b`)
	for _, f := range sources(t) {
		if forTests(f) || !strings.HasPrefix(f.pkg, "lxd/") || under(f.pkg, "lxd/db") || under(f.pkg, "lxd/dqlite") {
			continue
		}
		ast.Inspect(f.file, func(n ast.Node) bool {
			l, ok := n.(*ast.BasicLit)
			if !ok || l.Kind != token.STRING {
				return true
			}
			s, err := strconv.Unquote(l.Value)
			if err != nil {
				return true
			}
			m := write.FindStringSubmatch(s)
			if m == nil {
				return true
			}
			if returning.MatchString(s) {
				t.Errorf("%s: RETURNING ends the daemon in libdqlite", f.fset.Position(l.Pos()))
			}
			if owner, ok := tableOwners[m[1]]; ok && !under(f.pkg, owner) {
				t.Errorf("%s writes %s, which belongs to %s", f.fset.Position(l.Pos()), m[1], owner)
			}
			return true
		})
	}
}
