package db

import (
	"fmt"
	"strings"
	"time"

	"sett/shared/errs"
)

// Stmt is one SQL statement. Statements are written out as package-level values,
// so that a test can prepare every one of them against the fresh schema.
type Stmt string

// MaxArgs is how many parameters a statement may have; dqlite takes no more. Lists
// go in as one: see JSON.
const MaxArgs = 255

// Mode says what a statement does.
type Mode int

// The modes of a statement.
const (
	Read  Mode = iota // returns rows and changes nothing
	Write             // changes something and returns no rows
)

// Check refuses what would end the daemon or corrupt the database when it reached
// libdqlite 1.11, and says whether the statement reads or writes.
func (s Stmt) Check() (Mode, error) {
	words := newWords(string(s))
	first, ok := words.next()
	if !ok {
		return Read, errs.Invalid("Empty SQL statement")
	}
	mode := Write
	cte := false
	switch first {
	case "SELECT", "VALUES", "EXPLAIN":
		mode = Read
	case "WITH":
		mode, cte = Read, true
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER", "ANALYZE", "REINDEX":
	case "VACUUM":
	case "PRAGMA":
		return Read, checkPragma(words)
	case "BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE":
		return Read, errs.Invalid("%s is not allowed in SQL: every call is a transaction by itself", first)
	case "ATTACH", "DETACH":
		return Read, errs.Invalid("%s is not allowed in SQL: the database stands alone", first)
	default:
		return Read, errs.Invalid("SQL statement begins with %q, which is not known", first)
	}
	prev := first
	for {
		w, ok := words.next()
		if !ok {
			break
		}
		switch {
		case w == "RETURNING":
			return Read, errs.Invalid("RETURNING is not allowed in SQL: it would end the database server")
		case w == "INTO" && prev == "VACUUM":
			return Read, errs.Invalid("VACUUM INTO is not allowed in SQL: the database stands alone")
		case cte && (w == "INTO" || w == "DELETE" || w == "UPDATE"):
			mode = Write
		case w == ";":
			if _, more := words.next(); more && first != "CREATE" {
				return Read, errs.Invalid("More than one SQL statement where one is expected")
			}
		}
		prev = w
	}
	if words.broken {
		return Read, errs.Invalid("SQL statement has an open quote or comment")
	}
	return mode, nil
}

// pragmas that only look. Those with true take a name in parentheses.
var pragmas = map[string]bool{
	"TABLE_INFO": true, "TABLE_XINFO": true, "TABLE_LIST": true, "INDEX_LIST": true, "INDEX_INFO": true, "INDEX_XINFO": true,
	"FOREIGN_KEY_LIST": true, "FOREIGN_KEY_CHECK": true, "INTEGRITY_CHECK": true, "QUICK_CHECK": true,
	"FOREIGN_KEYS": false, "USER_VERSION": false, "SCHEMA_VERSION": false, "APPLICATION_ID": false, "PAGE_COUNT": false,
	"PAGE_SIZE": false, "FREELIST_COUNT": false, "JOURNAL_MODE": false, "SYNCHRONOUS": false, "ENCODING": false,
	"COMPILE_OPTIONS": false, "DATABASE_LIST": false, "COLLATION_LIST": false, "FUNCTION_LIST": false,
}

func checkPragma(words *words) error {
	name, _ := words.next()
	next, more := words.next()
	if next == "." {
		name, _ = words.next()
		next, more = words.next()
	}
	takesName, known := pragmas[name]
	switch {
	case !known:
		return errs.Invalid("PRAGMA %s is not allowed in SQL", strings.ToLower(name))
	case !more || next == ";":
		return nil
	case next == "(" && takesName:
		return nil
	}
	return errs.Invalid("PRAGMA %s cannot be set: the database server would not survive it", strings.ToLower(name))
}

// checkArgs refuses what cannot go over dqlite's wire and makes times comparable.
func checkArgs(args []any) ([]any, error) {
	if len(args) > MaxArgs {
		return nil, errs.Internal("SQL statement has %d parameters; the database takes %d", len(args), MaxArgs)
	}
	for i, a := range args {
		switch v := a.(type) {
		case string:
			// The wire ends strings at the first NUL: the rest would be lost.
			if strings.IndexByte(v, 0) >= 0 {
				return nil, errs.Invalid("Text with a NUL byte cannot be stored")
			}
		case time.Time:
			args[i] = v.UTC()
		case *time.Time:
			if v != nil {
				args[i] = v.UTC()
			}
		}
		// The wire tells times as text with four digits for the year. A row with five could
		// be written, and nothing that comes with it be read any more.
		if t, ok := args[i].(time.Time); ok && (t.Year() < 0 || t.Year() > 9999) {
			return nil, errs.Invalid("The time %s cannot be stored: its year has no four digits", t.Format(time.RFC3339))
		}
	}
	return args, nil
}

// check is Stmt.Check with the answers remembered: statements are few and used often.
func (d *DB) check(s Stmt) (Mode, error) {
	if m, ok := d.checked.Load(s); ok {
		return m.(Mode), nil
	}
	m, err := s.Check()
	if err != nil {
		return m, fmt.Errorf("%w (%s)", err, shorten(s))
	}
	if d.nChecked.Add(1) < 4096 { // filters make new texts; don't keep them for ever
		d.checked.Store(s, m)
	}
	return m, nil
}

func shorten(s Stmt) string {
	t := strings.Join(strings.Fields(string(s)), " ")
	if len(t) > 80 {
		t = t[:77] + "..."
	}
	return t
}
