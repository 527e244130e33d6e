package dbtest

import (
	"database/sql"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sett/lxd/db"
	"sett/lxd/db/migrations"
	"sett/lxd/db/node"
)

type found struct {
	at   string
	stmt db.Stmt
}

// statements finds every value of type db.Stmt that is written in the tree's code,
// and complains of those that are not package-level.
func statements(t *testing.T, root string) (out map[string][]found) {
	t.Helper()
	out = map[string][]found{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			if g, ok := decl.(*ast.GenDecl); ok {
				for _, s := range g.Specs {
					if v, ok := s.(*ast.ValueSpec); ok {
						typed := isStmt(v.Type, f.Name.Name)
						for _, x := range v.Values {
							collect(t, fset, rel, f.Name.Name, x, typed, out)
						}
					}
				}
				continue
			}
			ast.Inspect(decl, func(n ast.Node) bool {
				c, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if isStmt(c.Fun, f.Name.Name) && len(c.Args) == 1 {
					if _, ok := text(c.Args[0]); ok {
						t.Errorf("%s: a statement inside of a function; make it a package-level db.Stmt", fset.Position(c.Pos()))
					}
				}
				if usesStmt(c.Fun) {
					for _, a := range c.Args {
						if s, ok := text(a); ok && strings.Contains(s, " ") {
							if _, err := db.Stmt(s).Check(); err == nil {
								t.Errorf("%s: a statement inside of a function; make it a package-level db.Stmt", fset.Position(a.Pos()))
							}
						}
					}
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func collect(t *testing.T, fset *token.FileSet, rel, pkg string, x ast.Expr, typed bool, out map[string][]found) {
	add := func(e ast.Expr) {
		if s, ok := text(e); ok {
			out[rel] = append(out[rel], found{fset.Position(e.Pos()).String(), db.Stmt(s)})
		} else {
			t.Errorf("%s: a db.Stmt that is not written out", fset.Position(e.Pos()))
		}
	}
	if typed {
		add(x)
		return
	}
	ast.Inspect(x, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok && isStmt(c.Fun, pkg) && len(c.Args) == 1 {
			add(c.Args[0])
		}
		return true
	})
}

func isStmt(e ast.Expr, pkg string) bool {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		return ok && x.Name == "db" && e.Sel.Name == "Stmt"
	case *ast.Ident:
		return pkg == "db" && e.Name == "Stmt"
	}
	return false
}

// usesStmt knows the functions of package db that take a statement.
func usesStmt(e ast.Expr) bool {
	if i, ok := e.(*ast.IndexExpr); ok {
		e = i.X
	}
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == "db"
}

func text(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		a, ok1 := text(e.X)
		b, ok2 := text(e.Y)
		return a + b, ok1 && ok2 && e.Op == token.ADD
	case *ast.ParenExpr:
		return text(e.X)
	}
	return "", false
}

func TestEveryStatementFitsTheSchema(t *testing.T) {
	t.Parallel()
	global := Open(t).Pool()
	local, err := sql.Open("sqlite3", "file:"+filepath.Join(t.TempDir(), "local.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = local.Close() })
	steps, err := node.Steps()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Apply(t.Context(), local, steps, "test"); err != nil {
		t.Fatal(err)
	}
	n := 0
	for dir, all := range statements(t, filepath.Join("..", "..", "..", "lxd")) {
		pool := global
		if dir == filepath.Join("db", "node") || dir == filepath.Join("op", "history") {
			pool = local
		}
		for _, f := range all {
			n++
			if _, err := f.stmt.Check(); err != nil {
				t.Errorf("%s: %v", f.at, err)
				continue
			}
			p, err := pool.PrepareContext(t.Context(), string(f.stmt))
			if err != nil {
				t.Errorf("%s: %v", f.at, err)
				continue
			}
			_ = p.Close()
		}
	}
	if n < 2 {
		t.Errorf("only %d statements found", n)
	}
}
