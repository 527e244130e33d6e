package archive_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ulikunitz/xz"

	"sett/shared/archive"
	"sett/shared/errs"
)

// xzFile packs text into two streams of several blocks each.
func xzFile(t *testing.T, text []byte, check byte) []byte {
	t.Helper()
	var b bytes.Buffer
	for range 2 {
		w, err := xz.WriterConfig{BlockSize: 5000, DictCap: 64 << 10, CheckSum: check, NoCheckSum: check == 0}.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b.Write(make([]byte, 4)) // the format allows this between streams
	}
	return b.Bytes()
}

// text is hard to pack in places.
func text() []byte {
	b := bytes.Repeat([]byte("what is the same packs well. "), 400)
	x := uint32(1)
	for range 9000 {
		x = x*1664525 + 1013904223
		b = append(b, byte(x>>24))
	}
	return append(b, bytes.Repeat([]byte("0123456789"), 70000)...) // more than one chunk
}

func unpack(t *testing.T, r io.Reader) ([]byte, error) {
	t.Helper()
	d, err := archive.Decompress(archive.XZ, r)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return io.ReadAll(d)
}

func TestXZOfManyBlocksAndStreams(t *testing.T) {
	t.Parallel()
	want := text()
	want2 := append(bytes.Clone(want), want...)
	for _, check := range []byte{0, xz.CRC32, xz.CRC64, xz.SHA256} {
		b := xzFile(t, want, check)
		for name, r := range map[string]io.Reader{"at once": bytes.NewReader(b), "byte by byte": iotest.OneByteReader(bytes.NewReader(b))} {
			got, err := unpack(t, r)
			if err != nil || !bytes.Equal(got, want2) {
				t.Errorf("check %d, %s: %d bytes, %v", check, name, len(got), err)
			}
		}
	}
}

// after finds the next place of what stands at a place, or -1.
func after(b, what []byte, at int) int {
	next := bytes.Index(b[at+1:], what)
	if next < 0 {
		return -1
	}
	return at + 1 + next
}

// TestXZOfALargeDictionaryIsRefused changes the dictionary of each block in turn.
func TestXZOfALargeDictionaryIsRefused(t *testing.T) {
	t.Parallel()
	b := xzFile(t, text(), xz.CRC64)
	head := []byte{2, 0, 0x21, 1} // 12 bytes, one filter, LZMA2, one byte about it
	blocks := 0
	for at := bytes.Index(b, head); at >= 0; {
		blocks++
		bad := bytes.Clone(b)
		bad[at+4] = 40     // 4 GiB
		if blocks%60 > 1 { // each of them takes its time
			at = after(b, head, at)
			continue
		}
		_, err := unpack(t, bytes.NewReader(bad))
		if !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "dictionary of 4096 MiB") {
			t.Fatalf("block %d: %v", blocks, err)
		}
		at = after(b, head, at)
	}
	if blocks < 100 {
		t.Errorf("only %d blocks", blocks)
	}
	for name, bad := range map[string][]byte{"garbage behind": append(bytes.Clone(b), "hello, this is no stream"...), "cut": b[:len(b)/3]} {
		if _, err := unpack(t, bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
