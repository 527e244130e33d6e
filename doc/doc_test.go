package doc

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// modules reads go.mod: module path to version.
func modules(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) >= 2 && strings.HasPrefix(f[1], "v") {
			out[f[0]] = f[1]
		}
	}
	return out
}

// imported are the modules whose packages our code imports, with one file that does.
func imported(t *testing.T, known map[string]string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range []string{"lxd", "lxc", "shared", "client", "doc", "test"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules") {
				return fs.SkipDir
			}
			if filepath.Ext(path) != ".go" {
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			for _, im := range f.Imports {
				p, _ := strconv.Unquote(im.Path.Value)
				for m := p; strings.Contains(m, "."); m = m[:strings.LastIndex(m, "/")] {
					if known[m] != "" {
						out[m] = path
						break
					}
					if !strings.Contains(m, "/") {
						break
					}
				}
			}
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return out
}

func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("contribute/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	known := modules(t)
	used := imported(t, known)
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\S+\.\S+/\S+) \| (v\S+) \|`).FindAllStringSubmatch(string(b), -1) {
		listed[m[1]] = true
		if used[m[1]] == "" {
			t.Errorf("doc/contribute/dependencies.md lists %s, which nothing imports", m[1])
		}
		if v := known[m[1]]; v != "" && v != m[2] {
			t.Errorf("doc/contribute/dependencies.md says %s %s; go.mod has %s", m[1], m[2], v)
		}
	}
	for m, file := range used {
		if !listed[m] {
			t.Errorf("%s imports %s; doc/contribute/dependencies.md does not say why", strings.TrimPrefix(file, "../"), m)
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	check := func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			}
		}
	}
	check("../README.md")
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			check(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
