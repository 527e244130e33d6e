package node

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"sett/lxd/db/migrations"
	"sett/shared/errs"
)

// Inspect tells whether a daemon may use the directory dir (LXD_DIR): it is new, or
// it was written by this program in this version or an older one. It changes nothing
// in there. global is the newest schema of the shared database that is known.
func Inspect(ctx context.Context, dir string, global int) error {
	path := filepath.Join(dir, "database", FileName)
	head, err := readHead(path)
	if err != nil {
		return err
	}
	if len(head) == 0 {
		for _, old := range []string{"lxd.db", "database/global"} {
			if _, err := os.Stat(filepath.Join(dir, old)); err == nil {
				return errs.Internal("%s holds %s but no database of this program, so it was written by LXD or is damaged; it was left as it is. Set LXD_DIR to another directory", dir, old)
			}
		}
		return nil
	}
	if len(head) < headSize || !bytes.HasPrefix(head, []byte("SQLite format 3\x00")) {
		return errs.Internal("%s is not a database; %s was left as it is. Restore the file, or set LXD_DIR to another directory", path, dir)
	}
	if binary.BigEndian.Uint32(head[68:]) != appID {
		return errs.Internal("%s was written by LXD and was left as it is. Set LXD_DIR to another directory", dir)
	}
	err = inspectOurs(ctx, path, global)
	if damaged(err) {
		return nil // Open mends it, or refuses it
	}
	return err
}

const headSize = 100

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at the local database: %w", err)
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("look at the local database: %w", err)
	}
	return head[:n], nil
}

// inspectOurs reads the versions. A daemon that was killed leaves part of the
// database in its log, and SQLite cannot read that without writing beside it: so it
// gets a copy to look at.
func inspectOurs(ctx context.Context, path string, global int) error {
	params := "mode=ro&immutable=1"
	if fi, err := os.Stat(path + "-wal"); err == nil && fi.Size() > 0 {
		tmp, err := copyAside(path, os.TempDir(), inMemory)
		if err != nil {
			return fmt.Errorf("look at the local database: %w", err)
		}
		defer os.RemoveAll(tmp)
		path, params = filepath.Join(tmp, FileName), ""
	}
	pool, err := open(path, params)
	if err != nil {
		return err
	}
	defer pool.Close()
	steps, err := Steps()
	if err != nil {
		return err
	}
	has, err := migrations.Version(ctx, pool)
	if err != nil {
		return fmt.Errorf("look at the local database: %w", err)
	}
	if has > len(steps) {
		return &migrations.ErrNewer{Has: has, Known: len(steps)}
	}
	if has == 0 {
		return nil
	}
	var note string
	switch err := pool.QueryRowContext(ctx, string(stmtNote), noteGlobalSchema).Scan(&note); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look at the local database: %w", err)
	}
	// A member of a cluster may meet what the next version has added to: see
	// package migrations.
	if n, err := strconv.Atoi(note); err == nil && n > global+1 || err == nil && n > global && !member(ctx, pool) {
		return &migrations.ErrNewer{Has: n, Known: global}
	}
	return nil
}

// inMemory is where there is room for a copy also when the disk is full that holds the
// database, and temporary files too.
const inMemory = "/dev/shm"

// copyAside copies a database and its log into a new folder, in the first of some that
// takes it.
func copyAside(path string, folders ...string) (tmp string, err error) {
	for _, in := range folders {
		tmp, err = os.MkdirTemp(in, "inspect-*")
		if err != nil {
			continue
		}
		for _, ext := range []string{"", "-wal"} {
			if err == nil {
				err = copyFile(path+ext, filepath.Join(tmp, FileName+ext))
			}
		}
		if err == nil {
			return tmp, nil
		}
		_ = os.RemoveAll(tmp)
	}
	return "", err
}

func member(ctx context.Context, pool *sql.DB) bool {
	var n string
	return pool.QueryRowContext(ctx, string(stmtNote), noteIdentity).Scan(&n) == nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
