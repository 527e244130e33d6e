package pack

import (
	"archive/tar"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Writer is a tar stream. Entries of the caller's own go in between trees with the
// methods of tar.Writer, or with File. Close ends the archive, and must be called for
// all of it to be written; it does not close what it is written to.
type Writer struct {
	*tar.Writer
	// Time is when the caller's own files were changed; zero stands for now.
	Time  time.Time
	out   *bufio.Writer
	buf   []byte
	bytes int64 // of files' contents so far
}

// NewWriter begins an archive.
func NewWriter(w io.Writer) *Writer {
	out := bufio.NewWriterSize(w, 64<<10) // headers are many and small
	return &Writer{Writer: tar.NewWriter(out), out: out, buf: make([]byte, 256<<10)}
}

// Close ends the archive.
func (w *Writer) Close() error {
	if err := w.Writer.Close(); err != nil {
		return err
	}
	return w.out.Flush()
}

// File writes a small file of root's.
func (w *Writer) File(name string, mode int64, content []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: w.Time, Format: tar.FormatPAX}
	if h.ModTime.IsZero() {
		h.ModTime = time.Now()
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// block is the unit of tar.
const block = 512

// The largest numbers for which the fields of a plain header have room.
const (
	maxField7  = 1<<21 - 1 // ids
	maxField11 = 1<<33 - 1 // sizes and times
)

// sparseHeader writes the header of a file of which only some parts follow: size bytes, the
// map of the parts included. The name and the real size stand in records that the
// standard library keeps to itself, so this one is made by hand.
func (w *Writer) sparseHeader(h *tar.Header, size int64) error {
	if err := w.Flush(); err != nil {
		return err
	}
	records := maps.Clone(h.PAXRecords)
	if records == nil {
		records = map[string]string{}
	}
	maps.Copy(records, map[string]string{
		"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": h.Name,
		"GNU.sparse.realsize": strconv.FormatInt(h.Size, 10), "mtime": paxTime(h.ModTime),
	})
	plain := &tar.Header{Typeflag: tar.TypeReg, Name: "GNUSparseFile.0/file", Mode: h.Mode, Format: tar.FormatUSTAR,
		ModTime: time.Unix(min(max(h.ModTime.Unix(), 0), maxField11), 0)}
	if h.Uid > maxField7 {
		records["uid"] = strconv.Itoa(h.Uid)
	} else {
		plain.Uid = h.Uid
	}
	if h.Gid > maxField7 {
		records["gid"] = strconv.Itoa(h.Gid)
	} else {
		plain.Gid = h.Gid
	}
	if size > maxField11 {
		records["size"] = strconv.FormatInt(size, 10)
	} else {
		plain.Size = size
	}
	var body bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(records)) {
		body.WriteString(paxRecord(k, records[k]))
	}
	if body.Len() > maxRecords {
		return errTooMuch
	}
	ext, err := plainHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "PaxHeaders.0/file", Mode: 0o644, Size: int64(body.Len()), Format: tar.FormatUSTAR})
	if err != nil {
		return err
	}
	retype(ext, tar.TypeXHeader)
	main, err := plainHeader(plain)
	if err != nil {
		return err
	}
	body.Write(make([]byte, -body.Len()&(block-1)))
	for _, b := range [][]byte{ext, body.Bytes(), main} {
		if _, err := w.out.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func plainHeader(h *tar.Header) ([]byte, error) {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// retype changes the type in a header's block, and its sum with it.
func retype(b []byte, typ byte) {
	const at, sumAt = 156, 148
	b[at] = typ
	sum := 8 * int(' ')
	for i, c := range b {
		if i < sumAt || i >= sumAt+8 {
			sum += int(c)
		}
	}
	copy(b[sumAt:], fmt.Sprintf("%06o\x00 ", sum))
}

// paxRecord is "length key=value\n", where the length counts its own digits.
func paxRecord(k, v string) string {
	rest := " " + k + "=" + v + "\n"
	n := len(rest)
	for digits := len(strconv.Itoa(n)); ; digits++ {
		if s := strconv.Itoa(n + digits); len(s) == digits {
			return s + rest
		}
	}
}

func paxTime(t time.Time) string {
	sec, nsec := t.Unix(), t.Nanosecond()
	if nsec == 0 {
		return strconv.FormatInt(sec, 10)
	}
	sign := ""
	if sec < 0 {
		sign, sec, nsec = "-", -(sec + 1), 1e9-nsec
	}
	return sign + strconv.FormatInt(sec, 10) + "." + strings.TrimRight(fmt.Sprintf("%09d", nsec), "0")
}
