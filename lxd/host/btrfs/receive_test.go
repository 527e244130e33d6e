package btrfs

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCopiedClonesEndWithTheirContext: blocks that cannot be shared, as here those of a
// part that begins in the middle of one, are copied as long as somebody waits for it.
func TestCopiedClonesEndWithTheirContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{root: root}
	defer r.close()
	num := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	c := command{cmd: cmdClone, attrs: map[uint16][]byte{attrPath: []byte("b"), attrOffset: num(1), attrCloneUUID: make([]byte, 16),
		attrClonePath: []byte("a"), attrCloneOff: num(3), attrCloneLen: num(1 << 60)}}
	size := func() int64 {
		fi, err := os.Stat(filepath.Join(dir, "b"))
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.clone(over, c); !errors.Is(err, context.Canceled) || size() != 0 {
		t.Errorf("got %v, %d bytes", err, size())
	}
	if err := r.clone(t.Context(), c); err != nil || size() != 20<<20-3+1 {
		t.Errorf("got %v, %d bytes", err, size())
	}
}
