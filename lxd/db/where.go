package db

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Where collects filters for a statement that is written out up to its WHERE. The
// columns are ours, the values the user's: they only ever travel as parameters.
//
//	var w db.Where
//	w.Eq("projects.name", project)
//	w.In("instances.name", names)
//	rows, err := db.SelectWhere[row](ctx, tx, stmtInstances, &w, "ORDER BY instances.name")
type Where struct {
	terms []string
	args  []any
}

// Eq asks for a column to equal a value.
func (w *Where) Eq(column string, value any) *Where { return w.Is(column+" = ?", value) }

// NotNull asks for a column to have a value, Null for it to have none.
func (w *Where) NotNull(column string) *Where { return w.Is(column + " IS NOT NULL") }

// Null asks for a column to have no value.
func (w *Where) Null(column string) *Where { return w.Is(column + " IS NULL") }

// Is adds a term in SQL with its parameters; terms are joined by AND.
func (w *Where) Is(term string, args ...any) *Where {
	w.terms = append(w.terms, "("+term+")")
	w.args = append(w.args, args...)
	return w
}

// In asks for a column to be one of a list, however long. An empty list lets
// nothing through.
func In[T int64 | int | string](w *Where, column string, values []T) *Where {
	return w.Is(column+" IN (SELECT value FROM json_each(?))", JSON(values))
}

// Empty tells whether there are no filters.
func (w *Where) Empty() bool { return w == nil || len(w.terms) == 0 }

// On puts the filters behind s and tail (such as ORDER BY) behind them.
func (w *Where) On(s Stmt, tail string) (Stmt, []any) {
	var b strings.Builder
	b.WriteString(string(s))
	var args []any
	if !w.Empty() {
		b.WriteString(" WHERE ")
		b.WriteString(strings.Join(w.terms, " AND "))
		args = append(args, w.args...)
	}
	if tail != "" {
		b.WriteString(" ")
		b.WriteString(tail)
	}
	return Stmt(b.String()), args
}

// JSON makes a list one parameter, to be used as
//
//	... WHERE id IN (SELECT value FROM json_each(?))
//
// which has no limit, where a list of parameters ends at MaxArgs.
func JSON[T int64 | int | string](values []T) string {
	if len(values) == 0 {
		return "[]"
	}
	b, err := json.Marshal(values)
	if err != nil {
		panic(err) // numbers and strings always marshal
	}
	return string(b)
}

// JSONMap makes a whole config map one parameter, so that one statement writes it:
//
//	INSERT INTO profiles_config (profile_id, key, value)
//	SELECT ?, key, value FROM json_each(?)
func JSONMap(values map[string]string) string {
	b, err := json.Marshal(values)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}

// JSONRows makes many rows one parameter, so that one statement writes them, in their order:
//
//	INSERT INTO profiles (project_id, name, description)
//	SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
//
// Times become the text that they are stored as, by both drivers.
func JSONRows(rows [][]any) (string, error) {
	out := make([][]any, len(rows))
	for n, row := range rows {
		var err error
		if out[n], err = checkArgs(slices.Clone(row)); err != nil {
			return "", err
		}
		for k, v := range out[n] {
			if t, ok := v.(time.Time); ok {
				out[n][k] = t.Format(storedTime)
			}
		}
	}
	b, err := json.Marshal(out)
	return string(b), err
}

const storedTime = "2006-01-02 15:04:05.999999999-07:00"
