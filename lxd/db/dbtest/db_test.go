package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sett/lxd/db"
	"sett/shared/errs"
)

type person struct {
	ID    int64      `db:"id"`
	Name  string     `db:"name"`
	Seen  *time.Time `db:"heartbeat"`
	Admin bool       `db:"admin"`
}

const (
	stmtNodes  db.Stmt = `SELECT id, nodes.name, heartbeat, state = 0 AS admin FROM nodes ORDER BY id`
	stmtAdd    db.Stmt = `INSERT INTO nodes (name, address, schema, api_extensions, heartbeat) VALUES (?, ?, 1, 1, ?)`
	stmtPut    db.Stmt = `INSERT INTO config (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`
	stmtGet    db.Stmt = `SELECT value FROM config WHERE key = ?`
	stmtKeys   db.Stmt = `SELECT key FROM config`
	stmtBump   db.Stmt = `UPDATE config SET value = value + 1 WHERE key = ?`
	stmtNames  db.Stmt = `SELECT name FROM nodes ORDER BY name`
	stmtIn     db.Stmt = `SELECT name FROM nodes WHERE name IN (SELECT value FROM json_each(?)) ORDER BY name`
	stmtDelCfg db.Stmt = `DELETE FROM profiles_config WHERE profile_id = ?`
	stmtInsCfg db.Stmt = `INSERT INTO profiles_config (profile_id, key, value) SELECT ?, key, value FROM json_each(?)`
	stmtCfg    db.Stmt = `SELECT profile_id, key, value FROM profiles_config`
	stmtDev    db.Stmt = `SELECT profile_id, d.name, d.type, c.key, c.value FROM profiles_devices d LEFT JOIN profiles_devices_config c ON c.profile_device_id = d.id`
)

func TestReadsAndWrites(t *testing.T) {
	t.Parallel()
	Both(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		now := time.Now().UTC().Truncate(time.Second)
		var id int64
		var hooked int
		err := d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			var err error
			tx.AfterCommit(func() { hooked++ })
			id, err = db.Insert(ctx, tx, stmtAdd, "m2", "10.0.0.2:8443", now.In(time.FixedZone("x", 7200)))
			return err
		})
		if err != nil || id != 2 || hooked != 1 {
			t.Fatalf("id %d, hooks %d, %v", id, hooked, err)
		}
		all, err := db.Select[person](ctx, d, stmtNodes)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != 2 || all[1].Name != "m2" || !all[1].Admin || all[1].Seen == nil || !all[1].Seen.Equal(now) {
			t.Fatalf("%+v", all)
		}
		Exec(t, d, stmtAdd, "m3", "10.0.0.3:8443", nil)
		all, err = db.Select[person](ctx, d, stmtNodes)
		if err != nil || len(all) != 3 || all[2].Seen != nil {
			t.Fatalf("NULL time: %+v, %v", all, err)
		}

		err = d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			tx.AfterCommit(func() { hooked++ })
			_, err := db.Insert(ctx, tx, stmtAdd, "m2", "elsewhere", nil)
			return err
		})
		if !db.IsDuplicate(err) || !errs.Is(err, errs.KindConflict) || hooked != 1 {
			t.Fatalf("duplicate: %v, hooks %d", err, hooked)
		}
		err = d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := db.Exec(ctx, tx, `INSERT INTO nodes_roles (node_id, role) VALUES (99, 0)`)
			return err
		})
		if !errors.Is(err, db.ErrReference) {
			t.Fatalf("reference: %v", err)
		}

		_, err = db.One[string](ctx, d, stmtGet, "nothing")
		if !db.IsNotFound(err) || !errs.Is(err, errs.KindNotFound) {
			t.Fatalf("%v", err)
		}
		var w db.Where
		db.In(&w, "name", []string{"m3", "m2", "it's"}).Eq("schema", 1)
		got, err := db.SelectWhere[string](ctx, d, `SELECT name FROM nodes`, &w, "ORDER BY name DESC")
		if err != nil || strings.Join(got, " ") != "m3 m2" {
			t.Fatalf("%v %v", got, err)
		}
		got, err = db.SelectWhere[string](ctx, d, `SELECT name FROM nodes`, db.In(&db.Where{}, "id", []int64{}), "")
		if err != nil || got == nil || len(got) != 0 {
			t.Fatalf("%v %v", got, err)
		}
	})
}

func TestManyParametersGoInAsOneList(t *testing.T) {
	t.Parallel()
	Both(t, func(t *testing.T, d *db.DB) {
		names := []string{"none"}
		args := []any{}
		for i := range 1000 {
			names = append(names, fmt.Sprint("m", i))
		}
		for range 256 {
			args = append(args, 1)
		}
		got, err := db.Select[string](t.Context(), d, stmtIn, db.JSON(names))
		if err != nil || len(got) != 1 {
			t.Fatalf("%v %v", got, err)
		}
		if _, err := db.Select[int](t.Context(), d, "SELECT 1", args...); err == nil || !strings.Contains(err.Error(), "256 parameters") {
			t.Fatalf("%v", err)
		}
	})
}

func TestConfigAndDevicesOfManyInOneStatement(t *testing.T) {
	t.Parallel()
	Both(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		Exec(t, d, `INSERT INTO profiles (id, name, project_id) VALUES (2, 'p', 1)`)
		Exec(t, d, `INSERT INTO profiles_devices (id, profile_id, name, type) VALUES (1, 2, 'root', 'disk'), (2, 2, 'bare', 'none')`)
		Exec(t, d, `INSERT INTO profiles_devices_config (profile_device_id, key, value) VALUES (1, 'path', '/'), (1, 'pool', 'default')`)
		want := map[string]string{"user.a": `quote " and <tag> ü`, "limits.cpu": "2", "empty": ""}
		set := func(m map[string]string) error {
			return d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
				return db.SetMap(ctx, tx, stmtDelCfg, stmtInsCfg, 2, m)
			})
		}
		if err := set(map[string]string{"old": "x"}); err != nil {
			t.Fatal(err)
		}
		if err := set(want); err != nil {
			t.Fatal(err)
		}
		if err := set(map[string]string{"a": "b\x00c"}); !errs.Is(err, errs.KindInvalid) {
			t.Fatalf("%v", err)
		}
		all, err := db.Maps(ctx, d, stmtCfg)
		if err != nil || len(all) != 1 || fmt.Sprint(all[2]) != fmt.Sprint(want) {
			t.Fatalf("%v %v", all, err)
		}
		devs, err := db.Devices(ctx, d, stmtDev)
		if err != nil || len(devs[2]) != 2 || devs[2]["root"]["pool"] != "default" || devs[2]["root"]["type"] != "disk" || len(devs[2]["bare"]) != 1 {
			t.Fatalf("%v %v", devs, err)
		}
	})
}

func TestManyRowsComeWhole(t *testing.T) {
	t.Parallel()
	Both(t, func(t *testing.T, d *db.DB) {
		err := d.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			for i := range 3000 {
				if _, err := db.Exec(ctx, tx, stmtPut, fmt.Sprintf("k%04d", i), strings.Repeat("x", i%90)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := db.Select[string](t.Context(), d, stmtKeys)
		if err != nil || len(got) != 3000 || !slices.Contains(got, "k2999") {
			t.Fatalf("%d rows, %v", len(got), err)
		}
	})
}

func TestRulesAreHeldByTheLayer(t *testing.T) {
	t.Parallel()
	Both(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		for _, bad := range []db.Stmt{
			`INSERT INTO config (key) VALUES ('x') RETURNING id`,
			`insert into config (key) values ('x') /* " */ returning id`,
			`WITH a AS (SELECT 1) DELETE FROM config RETURNING key`,
			`ATTACH DATABASE 'x' AS y`,
			`PRAGMA journal_mode = DELETE`,
			`PRAGMA journal_mode(DELETE)`,
			`PRAGMA main.synchronous = FULL`,
			`PRAGMA wal_checkpoint`,
			`VACUUM INTO '/tmp/x'`,
			`BEGIN`,
			`COMMIT`,
			`SELECT 1; DELETE FROM config`,
			`SELECT 'open`,
			``,
			`EXEC x`,
		} {
			if _, err := bad.Check(); err == nil {
				t.Errorf("%s: let through", bad)
			}
			err := d.Update(ctx, func(ctx context.Context, tx *db.Tx) error { _, err := db.Exec(ctx, tx, bad); return err })
			if err == nil {
				t.Errorf("%s: executed", bad)
			}
			if _, err := db.Select[string](ctx, d, bad); err == nil {
				t.Errorf("%s: selected", bad)
			}
		}
		for _, write := range []db.Stmt{stmtPut, `WITH a AS (SELECT 1 AS x) INSERT INTO config (key) SELECT x FROM a`} {
			if _, err := db.Select[string](ctx, d, write, "a", "b"); err == nil {
				t.Errorf("%s: written by reading", write)
			}
			err := d.View(ctx, func(ctx context.Context, tx *db.Tx) error { _, err := db.Exec(ctx, tx, write); return err })
			if err == nil {
				t.Errorf("%s: written in a View", write)
			}
		}
		for _, good := range []db.Stmt{
			`SELECT 'RETURNING', "ATTACH", [PRAGMA] FROM x -- RETURNING`,
			`SELECT replace(a, 'b', 'c') FROM x;`,
			`PRAGMA table_info(config)`,
			`PRAGMA foreign_keys`,
		} {
			if m, err := good.Check(); err != nil || m != db.Read {
				t.Errorf("%s: %v, %v", good, m, err)
			}
		}
		if _, err := db.Select[string](ctx, d, stmtGet, "a\x00b"); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("NUL in a parameter: %v", err)
		}
		if n, err := db.Select[string](ctx, d, stmtKeys); err != nil || len(n) != 0 {
			t.Errorf("%v %v", n, err)
		}
	})
}

func TestViewIsASnapshotAndUpdateAllOrNothing(t *testing.T) {
	t.Parallel()
	Both(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		Exec(t, d, stmtPut, "n", "1")
		err := d.View(ctx, func(vctx context.Context, tx *db.Tx) error {
			before, err := db.One[string](vctx, tx, stmtGet, "n")
			if err != nil {
				return err
			}
			Exec(t, d, stmtPut, "n", "2") // somebody else's
			after, err := db.One[string](vctx, tx, stmtGet, "n")
			if before != "1" || after != "1" {
				t.Errorf("saw %s, then %s", before, after)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		boom := errors.New("boom")
		err = d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			if _, err := db.Exec(ctx, tx, stmtPut, "n", "3"); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		if got, err := db.One[string](ctx, d, stmtGet, "n"); err != nil || got != "2" {
			t.Errorf("%q, %v", got, err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
				if _, err := db.Exec(ctx, tx, stmtPut, "n", "4"); err != nil {
					return err
				}
				panic("at three in the morning")
			})
		}()
		if got, err := db.One[string](ctx, d, stmtGet, "n"); err != nil || got != "2" {
			t.Errorf("after a panic: %q, %v", got, err)
		}
		err = d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := db.Select[string](ctx, d, stmtKeys)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "inside of another") {
			t.Errorf("nested: %v", err)
		}
		var kept *db.Tx
		_ = d.Update(ctx, func(ctx context.Context, tx *db.Tx) error { kept = tx; return nil })
		if _, err := db.Exec(ctx, kept, stmtPut, "n", "5"); err == nil {
			t.Error("a transaction outlived its closure")
		}
	})
}

// Two DBs on one database stand for two members: their queues know nothing of each
// other, and they collide in the database.
func TestConcurrentWritersLoseNothing(t *testing.T) {
	t.Parallel()
	Both(t, func(t *testing.T, d *db.DB) {
		Exec(t, d, stmtPut, "n", "0")
		members := []*db.DB{d, db.Open(d.Pool(), db.Options{})}
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for range 15 {
					err := members[w%2].Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
						if _, err := db.One[string](ctx, tx, stmtGet, "n"); err != nil {
							return err
						}
						return db.ExecOne(ctx, tx, stmtBump, "n")
					})
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := db.Select[string](t.Context(), d, stmtNames); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if got, err := db.One[int](t.Context(), d, stmtGet, "n"); err == nil || got != 0 {
			t.Errorf("text read as a number: %d, %v", got, err)
		}
		if got, err := db.One[string](t.Context(), d, stmtGet, "n"); err != nil || got != "90" {
			t.Errorf("%s of 90 arrived (%v)", got, err)
		}
	})
}

// Who finds the database locked tries again over the connection that he has: to make one
// takes longer than what he waits for.
func TestABusyDatabaseCostsNoConnection(t *testing.T) {
	t.Parallel()
	d := Dqlite(t) // SQLite by itself waits for some seconds before it says so
	ctx := t.Context()
	d.Pool().SetMaxOpenConns(2)
	take := func() (*sql.Conn, any) {
		c, err := d.Pool().Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var is any
		if err := c.Raw(func(driver any) error { is = driver; return nil }); err != nil {
			t.Fatal(err)
		}
		return c, is
	}
	holder, _ := take()
	other, was := take()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := holder.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	// Enough is said between two tries: a connection on which one was broken off is not kept.
	enough, tries := errors.New("enough"), 0
	waits := db.Open(d.Pool(), db.Options{Member: func() int64 { return 1 }, Log: Log(t), Full: func() error {
		if tries++; tries > 3 {
			return enough
		}
		return nil
	}})
	put := func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtPut, "a", "b")
		return err
	}
	if err := waits.Update(ctx, put); !errors.Is(err, enough) {
		t.Errorf("while somebody else writes: %v", err)
	}
	other, is := take()
	if is != was {
		t.Error("the connection was thrown away")
	}
	if err := errors.Join(other.Close(), func() error { _, err := holder.ExecContext(ctx, "ROLLBACK"); return err }(), holder.Close()); err != nil {
		t.Fatal(err)
	}
	if err := d.Update(ctx, put); err != nil {
		t.Errorf("when the database is free: %v", err)
	}
}

func TestWaitingForTheQueueEndsWithTheContext(t *testing.T) {
	t.Parallel()
	d := Open(t)
	inside, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = d.Update(t.Context(), func(context.Context, *db.Tx) error { close(inside); <-leave; return nil })
	})
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := d.Update(ctx, func(context.Context, *db.Tx) error { t.Error("ran"); return nil })
	if !errs.Is(err, errs.KindUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	if err := d.Update(gone, func(context.Context, *db.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(leave)
	wg.Wait()
}

func TestRowsReadIntoOtherShapes(t *testing.T) {
	t.Parallel()
	d := Open(t)
	ctx := t.Context()
	type inOrder struct {
		Yes   bool
		Big   uint64
		Ratio float64
		Data  []byte
		When  time.Time
		None  sql.NullString
		Opt   *int
		Any   any
	}
	got, err := db.One[inOrder](ctx, d, `SELECT 1, 7, 2, x'0102', '2020-01-02 03:04:05', NULL, 9, 'z'`)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Yes || got.Big != 7 || got.Ratio != 2 || string(got.Data) != "\x01\x02" || got.When.Year() != 2020 || got.None.Valid || *got.Opt != 9 {
		t.Errorf("%+v", got)
	}
	if v, err := db.One[int64](ctx, d, `SELECT count(*) FROM nodes`); err != nil || v != 1 {
		t.Errorf("%d %v", v, err)
	}
	if _, err := db.One[uint8](ctx, d, `SELECT 300`); err == nil {
		t.Error("300 fits into a byte")
	}
	if _, err := db.One[person](ctx, d, `SELECT id, address FROM nodes`); err == nil || !strings.Contains(err.Error(), `"address" has no field`) {
		t.Errorf("%v", err)
	}
	if _, err := db.One[string](ctx, d, `SELECT key FROM projects_config`); err == nil {
		t.Error("several rows where one is expected")
	}
	if ok, err := db.Exists(ctx, d, `SELECT 1 FROM projects WHERE name = ?`, "default"); !ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
}
