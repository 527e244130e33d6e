package cli

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// TempFile makes a file that gets its name when it is whole. It has the mode of any new
// file of the user's, which os.CreateTemp's have not.
func TempFile(dir string) (*os.File, error) {
	for {
		f, err := os.OpenFile(filepath.Join(dir, ".lxc-"+rand.Text()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}
