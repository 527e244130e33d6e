package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"sett/lxd/db"
)

// TestMain makes this binary a daemon that writes until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_CRASH_DIR"); dir != "" {
		fmt.Fprintln(os.Stderr, writeForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func writeForEver(dir string) error {
	s, err := Open(context.Background(), Options{Dir: dir, Version: "test"})
	if err != nil {
		return err
	}
	from, err := db.One[int](context.Background(), s.Global, `SELECT count(*) FROM config`)
	if err != nil {
		return err
	}
	for i := from; ; i++ {
		err := s.Global.Update(context.Background(), func(ctx context.Context, tx *db.Tx) error {
			_, err := db.Exec(ctx, tx, stmtSet, strconv.Itoa(i), "x")
			return err
		})
		if err != nil {
			return err
		}
		fmt.Println(i + 1)
	}
}

func TestKilledDaemonLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := 0
	for _, more := range []int{1, 60, 300} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "STORE_CRASH_DIR="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		goal := acked + more
		killed := false
		for lines.Scan() {
			if acked, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatalf("%q", lines.Text())
			}
			if acked >= goal && !killed {
				_ = cmd.Process.Kill()
				killed = true
			}
		}
		_ = cmd.Wait()
		if !killed {
			t.Fatalf("the daemon ended by itself after %d writes", acked)
		}
	}
	s := mustOpen(t, dir)
	defer mustClose(t, s)
	n, err := db.One[int](t.Context(), s.Global, `SELECT count(*) FROM config`)
	if err != nil || n < acked || n > acked+1 {
		t.Errorf("%d rows, %d were acknowledged, %v", n, acked, err)
	}
}
