package dqlite_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"sett/lxd/dqlite"
)

// Nodes that come and go register and remove a VFS each, while others open files of
// their own through the same library.
func TestNodesAndLocalDatabasesShareTheLibrary(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for n := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				d, err := sql.Open("sqlite3", filepath.Join(t.TempDir(), fmt.Sprintf("%d-%d.db", n, i)))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := d.Exec("CREATE TABLE t (a); INSERT INTO t VALUES (1)"); err != nil {
					t.Error(err)
				}
				_ = d.Close()
			}
		})
	}
	for range 20 {
		n, err := dqlite.Start(dqlite.Options{Dir: t.TempDir()})
		if err != nil {
			t.Error(err)
			break
		}
		if err := n.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}
