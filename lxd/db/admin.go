package db

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"sett/shared/errs"
)

// Result is what one statement of an administrator gave.
type Result struct {
	Type         string   `json:"type"` // "select" or "exec"
	Columns      []string `json:"columns"`
	Rows         [][]any  `json:"rows"`
	RowsAffected int64    `json:"rows_affected"`
}

// Run runs the SQL of an administrator: one statement or several, parted by
// semicolons, in one transaction. What the database server would not survive is
// refused before anything runs.
func (d *DB) Run(ctx context.Context, text string) ([]Result, error) {
	var stmts []adminStmt
	begin := Read
	for _, s := range Split(text) {
		if isNoop(s) {
			stmts = append(stmts, adminStmt{s, Write, true})
			continue
		}
		mode, err := s.Check()
		if err != nil {
			return nil, err
		}
		if mode == Write {
			begin = Write
		}
		stmts = append(stmts, adminStmt{s, mode, false})
	}
	if len(stmts) == 0 {
		return nil, errs.Invalid("No query provided")
	}
	var out []Result
	run := func(ctx context.Context, tx *Tx) error {
		out = make([]Result, 0, len(stmts))
		for _, s := range stmts {
			r, err := s.run(ctx, tx)
			if err != nil {
				return adminError(err)
			}
			out = append(out, r)
		}
		return nil
	}
	var err error
	if begin == Write {
		err = d.Update(ctx, run)
	} else {
		err = d.View(ctx, run)
	}
	return out, err
}

type adminStmt struct {
	stmt Stmt
	mode Mode
	noop bool
}

func (s adminStmt) run(ctx context.Context, tx *Tx) (Result, error) {
	if s.noop {
		return Result{Type: "exec"}, nil
	}
	if s.mode == Write {
		n, err := Exec(ctx, tx, s.stmt)
		return Result{Type: "exec", RowsAffected: n}, err
	}
	r := Result{Type: "select"}
	err := tx.read(ctx, s.stmt, nil, func(rows *sql.Rows) error {
		var err error
		r.Columns, err = rows.Columns()
		if err != nil {
			return err
		}
		r.Rows = [][]any{}
		for rows.Next() {
			row := make([]any, len(r.Columns))
			dest := make([]any, len(row))
			for i := range row {
				dest[i] = &row[i]
			}
			if err := rows.Scan(dest...); err != nil {
				return err
			}
			for i, v := range row {
				if b, ok := v.([]byte); ok {
					row[i] = string(b)
				}
			}
			r.Rows = append(r.Rows, row)
		}
		return nil
	})
	return r, err
}

// adminError makes a mistake in the SQL the fault of who wrote it, and leaves alone
// what is to be repeated.
func adminError(err error) error {
	if c := classOf(err); c == classBusy || c == classLost || errs.KindOf(err) != errs.KindInternal {
		return err
	}
	return errs.Wrap(errs.KindInvalid, err)
}

// isNoop knows `PRAGMA foreign_keys=ON`, with which scripts for LXD begin. They are
// on here, and setting a PRAGMA is not for this server.
func isNoop(s Stmt) bool {
	w := newWords(string(s))
	var all []string
	for x, ok := w.next(); ok; x, ok = w.next() {
		all = append(all, x)
	}
	t := strings.TrimSuffix(strings.Join(all, " "), " ;")
	switch t {
	case "PRAGMA FOREIGN_KEYS = ON", "PRAGMA FOREIGN_KEYS = 1", "PRAGMA FOREIGN_KEYS = TRUE", "PRAGMA FOREIGN_KEYS ( ON )", "PRAGMA FOREIGN_KEYS ( 1 )":
		return true
	}
	return false
}

// Split parts SQL at its semicolons, but not inside of quotes, comments and the body
// of a trigger. Empty statements are left out.
func Split(text string) []Stmt {
	var out []Stmt
	w := newWords(text)
	start := 0
	var seen []string // the first words of the statement, enough to know a trigger
	prev, prev2 := "", ""
	flush := func(end int) {
		if len(seen) > 0 {
			out = append(out, Stmt(strings.TrimSpace(text[start:end])))
		}
		start, seen, prev, prev2 = w.pos, nil, "", ""
	}
	for {
		x, ok := w.next()
		if !ok {
			flush(len(text))
			return out
		}
		if x == ";" {
			// The body of a trigger ends with "; END ;".
			if !isTrigger(seen) || prev == "END" && prev2 == ";" {
				flush(w.pos - 1)
				continue
			}
		}
		if len(seen) < 3 {
			seen = append(seen, x)
		}
		prev2, prev = prev, x
	}
}

func isTrigger(seen []string) bool {
	if len(seen) < 2 || seen[0] != "CREATE" {
		return false
	}
	if seen[1] == "TEMP" || seen[1] == "TEMPORARY" {
		return len(seen) > 2 && seen[2] == "TRIGGER"
	}
	return seen[1] == "TRIGGER"
}

const (
	stmtMaster      Stmt = `SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY type = 'table' DESC, rowid`
	stmtHasSequence Stmt = `SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'`
	stmtColumns     Stmt = `SELECT name FROM pragma_table_info(?) ORDER BY cid`
)

// Dump writes the database out as SQL; schemaOnly leaves the rows out.
func (d *DB) Dump(ctx context.Context, schemaOnly bool) (string, error) {
	var b strings.Builder
	err := d.View(ctx, func(ctx context.Context, tx *Tx) error {
		b.Reset()
		type object struct{ Type, Name, SQL string }
		all, err := Select[object](ctx, tx, stmtMaster)
		if err != nil {
			return err
		}
		if schemaOnly {
			for _, o := range all {
				b.WriteString(o.SQL + ";\n")
			}
			return nil
		}
		b.WriteString("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n")
		var rest strings.Builder
		for _, o := range all {
			if o.Type != "table" {
				rest.WriteString(o.SQL + ";\n")
				continue
			}
			b.WriteString(o.SQL + ";\n")
			if err := dumpRows(ctx, tx, &b, o.Name); err != nil {
				return err
			}
		}
		has, err := Exists(ctx, tx, stmtHasSequence)
		if err != nil {
			return err
		}
		if has {
			b.WriteString("DELETE FROM sqlite_sequence;\n")
			if err := dumpRows(ctx, tx, &b, "sqlite_sequence"); err != nil {
				return err
			}
		}
		b.WriteString(rest.String() + "COMMIT;\n")
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("dump the database: %w", err)
	}
	return b.String(), nil
}

func dumpRows(ctx context.Context, tx *Tx, b *strings.Builder, table string) error {
	cols, err := Select[string](ctx, tx, stmtColumns, table)
	if err != nil {
		return err
	}
	quoted := make([]string, len(cols))
	for i, c := range cols {
		// quote() gives the stored value as SQL, whatever the column's type makes of it.
		quoted[i] = "quote(" + name(c) + ")"
	}
	rows, err := Select[string](ctx, tx, Stmt("SELECT "+strings.Join(quoted, " || ',' || ")+" FROM "+name(table)))
	if err != nil {
		return err
	}
	into := "INSERT INTO " + name(table) + " VALUES("
	for _, r := range rows {
		b.WriteString(into + r + ");\n")
	}
	return nil
}

// name quotes an identifier.
func name(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
