// Package extract finds the strings that i18n translates and writes them as a
// gettext template.
package extract

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// message is one string and where it stands.
type message struct {
	one, many string
	files     []string
}

// Write finds the strings in the Go files below dirs, which are relative to root,
// and writes the template. Line numbers are left out: they would change with
// every line of code and tell translators nothing.
func Write(w io.Writer, root string, dirs ...string) error {
	found := map[string]*message{}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			return file(path, filepath.ToSlash(rel), found)
		})
		if err != nil {
			return err
		}
	}
	return write(w, found)
}

// file adds the strings of one file.
func file(path, rel string, found map[string]*message) error {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	var bad error
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		fun, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := fun.X.(*ast.Ident)
		if !ok || x.Name != "i18n" || fun.Sel.Name != "G" && fun.Sel.Name != "NG" {
			return true
		}
		m := message{}
		if m.one, ok = literal(call.Args[0]); ok && fun.Sel.Name == "NG" {
			m.many, ok = literal(call.Args[1])
		}
		if !ok {
			bad = fmt.Errorf("%s: i18n.%s takes literal strings only, others cannot be found", fset.Position(call.Pos()), fun.Sel.Name)
			return false
		}
		known := found[m.one]
		if known == nil {
			known = &m
			found[m.one] = known
		}
		if !slices.Contains(known.files, rel) {
			known.files = append(known.files, rel)
		}
		return true
	})
	return bad
}

// literal returns a string constant, which may be a sum of constants.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		a, ok := literal(e.X)
		b, ok2 := literal(e.Y)
		return a + b, ok && ok2 && e.Op == token.ADD
	}
	return "", false
}

const header = `# Strings of Sett, to be translated. Written by a program; do not edit.
msgid ""
msgstr ""
"Project-Id-Version: lxd\n"
"MIME-Version: 1.0\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Content-Transfer-Encoding: 8bit\n"
`

func write(w io.Writer, found map[string]*message) error {
	var b strings.Builder
	b.WriteString(header)
	keys := make([]string, 0, len(found))
	for k := range found {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		m := found[k]
		slices.Sort(m.files)
		fmt.Fprintf(&b, "\n#: %s\n", strings.Join(m.files, " "))
		if strings.Contains(m.one, "%") {
			b.WriteString("#, c-format\n")
		}
		fmt.Fprintf(&b, "msgid %s\n", quote(m.one))
		if m.many != "" {
			fmt.Fprintf(&b, "msgid_plural %s\nmsgstr[0] \"\"\nmsgstr[1] \"\"\n", quote(m.many))
		} else {
			b.WriteString("msgstr \"\"\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// quote writes a string of many lines as gettext likes it.
func quote(s string) string {
	one := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
	}
	lines := strings.SplitAfter(s, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) < 2 {
		return one(s)
	}
	out := []string{`""`}
	for _, l := range lines {
		out = append(out, one(l))
	}
	return strings.Join(out, "\n")
}
