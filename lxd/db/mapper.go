package db

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"sett/shared/errs"
)

// Select returns the rows of a statement as values of T. A struct takes the columns
// by the names in its `db:"name"` tags, or in order when it has no tags; any other
// T takes the one column. NULL becomes the zero value, or nil for a pointer. The
// result is never nil, so that it lists as [] in JSON.
func Select[T any](ctx context.Context, q Querier, s Stmt, args ...any) ([]T, error) {
	var out []T
	err := q.read(ctx, s, args, func(rows *sql.Rows) error {
		out = []T{}
		var v T
		dst := reflect.ValueOf(&v).Elem()
		cells, err := q.core().cells(s, rows, dst.Type())
		if err != nil {
			return err
		}
		cells.bind(dst)
		for rows.Next() {
			dst.SetZero()
			if err := rows.Scan(cells.dest...); err != nil {
				return fmt.Errorf("read row of %s: %w", shorten(s), err)
			}
			out = append(out, v)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// One returns the only row of a statement. It returns ErrNotFound when there is
// none and an internal error when there are several.
func One[T any](ctx context.Context, q Querier, s Stmt, args ...any) (T, error) {
	var zero T
	all, err := Select[T](ctx, q, s, args...)
	switch {
	case err != nil:
		return zero, err
	case len(all) == 0:
		return zero, ErrNotFound
	case len(all) > 1:
		return zero, errs.Internal("%d rows where one is expected (%s)", len(all), shorten(s))
	}
	return all[0], nil
}

// Exists tells whether a statement returns any row.
func Exists(ctx context.Context, q Querier, s Stmt, args ...any) (bool, error) {
	found := false
	err := q.read(ctx, s, args, func(rows *sql.Rows) error {
		found = rows.Next()
		return nil
	})
	return found, err
}

// Exec runs a writing statement and returns how many rows it touched.
func Exec(ctx context.Context, tx *Tx, s Stmt, args ...any) (int64, error) {
	res, err := tx.exec(ctx, s, args)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// ExecOne is Exec for a statement that must touch exactly one row; ErrNotFound when
// it touches none.
func ExecOne(ctx context.Context, tx *Tx, s Stmt, args ...any) error {
	n, err := Exec(ctx, tx, s, args...)
	switch {
	case err != nil:
		return err
	case n == 0:
		return ErrNotFound
	case n > 1:
		return errs.Internal("%d rows changed where one is expected (%s)", n, shorten(s))
	}
	return nil
}

// Insert runs an INSERT of one row and returns the row's id. The id is good only
// for a plain INSERT: an upsert that updated or ignored leaves an older one.
func Insert(ctx context.Context, tx *Tx, s Stmt, args ...any) (int64, error) {
	res, err := tx.exec(ctx, s, args)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// planKey is a statement read into a type; the answer is the field of each column.
type planKey struct {
	stmt Stmt
	typ  reflect.Type
}

// cells are the destinations of one row, bound to one value.
type cells struct {
	fields [][]int // index path of each column's field; nil for a plain value
	cells  []cell
	dest   []any
}

func (c *cells) bind(v reflect.Value) {
	for i := range c.cells {
		if c.fields == nil {
			c.cells[i].v = v
		} else {
			c.cells[i].v = v.FieldByIndex(c.fields[i])
		}
		c.cells[i].kind = c.cells[i].v.Kind()
		c.dest[i] = &c.cells[i]
	}
}

func (d *DB) cells(s Stmt, rows *sql.Rows, t reflect.Type) (*cells, error) {
	key := planKey{s, t}
	var fields [][]int
	if f, ok := d.plans.Load(key); ok {
		fields = f.([][]int)
	} else {
		cols, err := rows.Columns()
		if err != nil {
			return nil, wrap(err)
		}
		fields, err = plan(t, cols)
		if err != nil {
			return nil, fmt.Errorf("%w (%s)", err, shorten(s))
		}
		if d.nChecked.Add(1) < 4096 {
			d.plans.Store(key, fields)
		}
	}
	n := max(1, len(fields))
	return &cells{fields: fields, cells: make([]cell, n), dest: make([]any, n)}, nil
}

// plan finds the field of each column. A plain type takes exactly one column.
func plan(t reflect.Type, cols []string) ([][]int, error) {
	if !isRow(t) {
		if len(cols) != 1 {
			return nil, errs.Internal("%d columns cannot be read into one %s", len(cols), t)
		}
		return nil, nil
	}
	byName := map[string][]int{}
	var inOrder [][]int
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous && f.Type.Kind() == reflect.Struct || !f.IsExported() {
			continue
		}
		inOrder = append(inOrder, f.Index)
		if tag, ok := f.Tag.Lookup("db"); ok && tag != "-" {
			byName[strings.ToLower(tag)] = f.Index
		}
	}
	if len(byName) == 0 {
		if len(inOrder) != len(cols) {
			return nil, errs.Internal("%d columns cannot be read into the %d fields of %s", len(cols), len(inOrder), t)
		}
		return inOrder, nil
	}
	out := make([][]int, len(cols))
	for i, c := range cols {
		// SQLite names a column as it was written when it has no alias.
		c = strings.ToLower(c[strings.LastIndexByte(c, '.')+1:])
		idx, ok := byName[c]
		if !ok {
			return nil, errs.Internal("column %q has no field in %s", c, t)
		}
		out[i] = idx
	}
	return out, nil
}

var (
	timeType    = reflect.TypeFor[time.Time]()
	scannerType = reflect.TypeFor[sql.Scanner]()
)

func isRow(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != timeType && !reflect.PointerTo(t).Implements(scannerType)
}

// cell puts one column of a row into a field. Columns that come from an expression
// have no declared type, so that booleans arrive as numbers and times as text.
type cell struct {
	v    reflect.Value
	kind reflect.Kind
}

// Scan implements sql.Scanner.
func (c *cell) Scan(src any) error { return put(c.v, c.kind, src) }

func put(v reflect.Value, kind reflect.Kind, src any) error {
	if kind == reflect.Pointer {
		if src == nil {
			v.SetZero()
			return nil
		}
		p := reflect.New(v.Type().Elem())
		if err := put(p.Elem(), p.Elem().Kind(), src); err != nil {
			return err
		}
		v.Set(p)
		return nil
	}
	if v.Type() != timeType && v.Addr().Type().Implements(scannerType) {
		return v.Addr().Interface().(sql.Scanner).Scan(src)
	}
	if src == nil {
		v.SetZero()
		return nil
	}
	switch kind {
	case reflect.String:
		switch s := src.(type) {
		case string:
			v.SetString(s)
			return nil
		case []byte:
			v.SetString(string(s))
			return nil
		case int64:
			v.SetString(strconv.FormatInt(s, 10))
			return nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		switch s := src.(type) {
		case int64:
			if v.OverflowInt(s) {
				return fmt.Errorf("%d does not fit into %s", s, v.Type())
			}
			v.SetInt(s)
			return nil
		case bool:
			v.SetInt(0)
			if s {
				v.SetInt(1)
			}
			return nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if s, ok := src.(int64); ok && s >= 0 && !v.OverflowUint(uint64(s)) {
			v.SetUint(uint64(s))
			return nil
		}
	case reflect.Bool:
		switch s := src.(type) {
		case bool:
			v.SetBool(s)
			return nil
		case int64:
			v.SetBool(s != 0)
			return nil
		}
	case reflect.Float32, reflect.Float64:
		switch s := src.(type) {
		case float64:
			v.SetFloat(s)
			return nil
		case int64:
			v.SetFloat(float64(s))
			return nil
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			switch s := src.(type) {
			case []byte:
				v.SetBytes(append([]byte(nil), s...))
				return nil
			case string:
				v.SetBytes([]byte(s))
				return nil
			}
		}
	case reflect.Struct:
		if v.Type() == timeType {
			t, err := asTime(src)
			if err != nil {
				return err
			}
			v.Set(reflect.ValueOf(t))
			return nil
		}
	case reflect.Interface:
		if b, ok := src.([]byte); ok {
			src = append([]byte(nil), b...)
		}
		v.Set(reflect.ValueOf(src))
		return nil
	}
	return fmt.Errorf("%T cannot be read into %s", src, v.Type())
}

func asTime(src any) (time.Time, error) {
	switch s := src.(type) {
	case time.Time:
		return s.UTC(), nil
	case int64:
		return time.Unix(s, 0).UTC(), nil
	case []byte:
		return asTime(string(s))
	case string:
		if s == "" {
			return time.Time{}, nil
		}
		for _, f := range []string{
			storedTime, "2006-01-02T15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999",
			"2006-01-02T15:04:05.999999999", "2006-01-02",
		} {
			if t, err := time.Parse(f, s); err == nil {
				return t.UTC(), nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("%v is not a time", src)
}
