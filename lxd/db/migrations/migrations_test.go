package migrations_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"sett/lxd/db/dbtest"
	"sett/lxd/db/migrations"
)

func empty(t *testing.T) *sql.DB {
	t.Helper()
	return dbtest.Empty(t).Pool()
}

func schema(t *testing.T, pool *sql.DB) string {
	t.Helper()
	rows, err := pool.QueryContext(t.Context(), `SELECT coalesce(sql, name) FROM sqlite_master ORDER BY type, name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return strings.Join(all, "\n")
}

func steps(t *testing.T) []migrations.Step {
	t.Helper()
	s, err := migrations.Global()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFreshSchemaEqualsUpgradedSchema(t *testing.T) {
	t.Parallel()
	fresh, upgraded := empty(t), empty(t)
	all := steps(t)
	if from, err := migrations.Apply(t.Context(), fresh, all, "test"); err != nil || from != 0 {
		t.Fatalf("%d %v", from, err)
	}
	for i := range all {
		if from, err := migrations.Apply(t.Context(), upgraded, all[:i+1], "test"); err != nil || from != i {
			t.Fatalf("step %d: from %d, %v", i+1, from, err)
		}
	}
	if a, b := schema(t, fresh), schema(t, upgraded); a != b {
		t.Errorf("fresh:\n%s\nupgraded:\n%s", a, b)
	}
	if from, err := migrations.Apply(t.Context(), fresh, all, "test"); err != nil || from != len(all) {
		t.Errorf("again: %d %v", from, err)
	}
	var broken int
	if err := fresh.QueryRow(`SELECT count(*) FROM pragma_foreign_key_check`).Scan(&broken); err != nil || broken != 0 {
		t.Errorf("%d rows point nowhere (%v)", broken, err)
	}
}

func TestNewerDatabaseIsRefusedUntouched(t *testing.T) {
	t.Parallel()
	pool := empty(t)
	all := steps(t)
	if _, err := migrations.Apply(t.Context(), pool, append(all, migrations.Step{Version: len(all) + 1, Name: "future", SQL: "CREATE TABLE future (x)"}), "v2"); err != nil {
		t.Fatal(err)
	}
	before := schema(t, pool)
	_, err := migrations.Apply(t.Context(), pool, all, "v1")
	var newer *migrations.ErrNewer
	if !errors.As(err, &newer) || newer.Has != len(all)+1 || newer.Known != len(all) {
		t.Fatalf("%v", err)
	}
	if schema(t, pool) != before {
		t.Error("the schema was touched")
	}
}

func TestFailingStepLeavesTheOneBefore(t *testing.T) {
	t.Parallel()
	pool := empty(t)
	all := []migrations.Step{
		{Version: 1, Name: "good", SQL: "CREATE TABLE a (x)"},
		{Version: 2, Name: "bad", SQL: "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1)"},
	}
	if _, err := migrations.Apply(t.Context(), pool, all, "test"); err == nil || !strings.Contains(err.Error(), "step 2 (bad)") {
		t.Fatalf("%v", err)
	}
	v, err := migrations.Version(context.Background(), pool)
	if err != nil || v != 1 || strings.Contains(schema(t, pool), "TABLE b") {
		t.Errorf("version %d, %v, %s", v, err, schema(t, pool))
	}
}

func TestStepsWithoutGaps(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]fstest.MapFS{
		"gap":     {"d/0001_a.sql": {}, "d/0003_c.sql": {}},
		"no name": {"d/0001.sql": {}},
	} {
		if _, err := migrations.Load(files, "d"); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}
