package dqlite

import (
	"bytes"
	"io"
	"net"
	"testing"
)

// counted counts what is written.
type counted struct {
	net.Conn
	writes [][]byte
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes = append(c.writes, bytes.Clone(b))
	return len(b), nil
}

func (c *counted) Read(b []byte) (int, error) { return 0, io.EOF }

func TestRequestsGoOutInOnePiece(t *testing.T) {
	t.Parallel()
	c := &counted{}
	b := &batched{Conn: c}
	big := bytes.Repeat([]byte("x"), mostBatched)
	for _, p := range [][]byte{[]byte("version"), []byte("header"), []byte("body")} {
		if n, err := b.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(c.writes) != 0 {
		t.Errorf("%q was sent before anybody waits for an answer", c.writes)
	}
	for range 2 {
		if _, err := b.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
	}
	_, _ = b.Write([]byte("header"))
	if n, err := b.Write(big); n != len(big) || err != nil {
		t.Fatal(n, err)
	}
	if got := bytes.Join(c.writes, []byte("|")); !bytes.Equal(got, append([]byte("versionheaderbody|header|"), big...)) {
		t.Errorf("%.100q", got)
	}
}
