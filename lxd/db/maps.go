package db

import (
	"context"
	"database/sql"
	"strings"

	"sett/shared/errs"
)

// SelectWhere is Select with filters behind the statement and tail behind them.
func SelectWhere[T any](ctx context.Context, q Querier, s Stmt, w *Where, tail string) ([]T, error) {
	s, args := w.On(s, tail)
	return Select[T](ctx, q, s, args...)
}

// Maps loads the config maps of many objects by one statement, which returns
// (id of the owner, key, value). An owner without rows is not in the result; a
// look-up gives nil, which reads as an empty map.
func Maps(ctx context.Context, q Querier, s Stmt, args ...any) (map[int64]map[string]string, error) {
	var out map[int64]map[string]string
	err := q.read(ctx, s, args, func(rows *sql.Rows) error {
		out = map[int64]map[string]string{}
		var id int64
		var key, value sql.NullString
		for rows.Next() {
			if err := rows.Scan(&id, &key, &value); err != nil {
				return err
			}
			m := out[id]
			if m == nil {
				m = map[string]string{}
				out[id] = m
			}
			m[key.String] = value.String
		}
		return nil
	})
	return out, err
}

// Devices loads the devices of many objects by one statement, which returns
// (id of the owner, device, type, key, value); key and value are NULL for a device
// without config (a LEFT JOIN). The type comes out as the key "type".
func Devices(ctx context.Context, q Querier, s Stmt, args ...any) (map[int64]map[string]map[string]string, error) {
	var out map[int64]map[string]map[string]string
	err := q.read(ctx, s, args, func(rows *sql.Rows) error {
		out = map[int64]map[string]map[string]string{}
		var id int64
		var name, typ string
		var key, value sql.NullString
		for rows.Next() {
			if err := rows.Scan(&id, &name, &typ, &key, &value); err != nil {
				return err
			}
			if out[id] == nil {
				out[id] = map[string]map[string]string{}
			}
			dev := out[id][name]
			if dev == nil {
				dev = map[string]string{"type": typ}
				out[id][name] = dev
			}
			if key.Valid {
				dev[key.String] = value.String
			}
		}
		return nil
	})
	return out, err
}

// Lists loads lists of many objects by one statement, which returns (id of the
// owner, value) in the order wanted: names of profiles, of aliases.
func Lists(ctx context.Context, q Querier, s Stmt, args ...any) (map[int64][]string, error) {
	var out map[int64][]string
	err := q.read(ctx, s, args, func(rows *sql.Rows) error {
		out = map[int64][]string{}
		var id int64
		var value string
		for rows.Next() {
			if err := rows.Scan(&id, &value); err != nil {
				return err
			}
			out[id] = append(out[id], value)
		}
		return nil
	})
	return out, err
}

// SetMap makes the rows of one owner's config be values: del takes (owner), ins
// takes (owner, JSON object) and reads it with json_each, as told at JSONMap.
func SetMap(ctx context.Context, tx *Tx, del, ins Stmt, owner int64, values map[string]string) error {
	if _, err := Exec(ctx, tx, del, owner); err != nil {
		return err
	}
	if len(values) == 0 {
		return nil
	}
	for k, v := range values {
		if strings.IndexByte(k, 0) >= 0 || strings.IndexByte(v, 0) >= 0 {
			return errs.Invalid("Text with a NUL byte cannot be stored (key %q)", k)
		}
	}
	_, err := Exec(ctx, tx, ins, owner, JSONMap(values))
	return err
}
