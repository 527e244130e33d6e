package db

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Patch runs the SQL in a file once: in one transaction, and the file is removed
// when it is committed. It reports whether there was one. When the SQL fails the
// database is as before and the file stays.
func (d *DB) Patch(ctx context.Context, file string) (bool, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the database patch: %w", err)
	}
	if len(Split(string(text))) > 0 {
		if _, err := d.Run(ctx, string(text)); err != nil {
			return false, fmt.Errorf("the database patch %s failed and nothing was changed; correct or remove it: %w", file, err)
		}
	}
	if err := os.Remove(file); err != nil {
		return true, fmt.Errorf("remove the database patch that was applied: %w", err)
	}
	return true, nil
}
