// Package archive tells the formats of archives apart by their first bytes, and walks
// through tarballs. What it reads was written by strangers: nothing is written to disk, no
// name is used as a path, and unpacking takes no more memory than it must.
package archive

import (
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"sett/shared/errs"
)

// Format is how an archive is packed.
type Format string

// The formats that images may have.
const (
	Tar      Format = "tar"
	Gzip     Format = "gzip"
	Bzip2    Format = "bzip2"
	XZ       Format = "xz"
	Zstd     Format = "zstd"
	LZ4      Format = "lz4"
	SquashFS Format = "squashfs"
)

// Ext is how the name of such a file ends.
func (f Format) Ext() string {
	switch f {
	case Gzip:
		return ".tar.gz"
	case Bzip2:
		return ".tar.bz2"
	case XZ:
		return ".tar.xz"
	case Zstd:
		return ".tar.zst"
	case LZ4:
		return ".tar.lz4"
	case SquashFS:
		return ".squashfs"
	}
	return ".tar"
}

// headSize is how many bytes Detect wants: a tar's mark stands at 257.
const headSize = 263

// Detect tells the format from the first bytes of a file.
func Detect(head []byte) (Format, error) {
	for _, m := range []struct {
		mark string
		at   int
		f    Format
	}{
		{"\x1f\x8b", 0, Gzip},
		{"BZh", 0, Bzip2},
		{"\xfd7zXZ\x00", 0, XZ},
		{"\x28\xb5\x2f\xfd", 0, Zstd},
		{"\x04\x22\x4d\x18", 0, LZ4},
		{"hsqs", 0, SquashFS},
		{"ustar", 257, Tar},
	} {
		if len(head) >= m.at+len(m.mark) && bytes.Equal(head[m.at:m.at+len(m.mark)], []byte(m.mark)) {
			return m.f, nil
		}
	}
	return "", errs.Invalid("The file is neither a tarball (plain, gzip, bzip2, xz, zstd or lz4) nor a squashfs image")
}

// DetectFile is Detect for an open file. It leaves the offset alone.
func DetectFile(f io.ReaderAt) (Format, error) {
	head := make([]byte, headSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return "", err
	}
	return Detect(head[:n])
}

// Decompress undoes the compression of a tarball. The result is to be closed; it does
// not close r.
func Decompress(f Format, r io.Reader) (io.ReadCloser, error) {
	switch f {
	case Tar:
		return io.NopCloser(r), nil
	case Gzip:
		return gzip.NewReader(r)
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case XZ:
		x, err := xz.NewReader(newXZGuard(r))
		return io.NopCloser(x), err
	case LZ4:
		return io.NopCloser(lz4.NewReader(r)), nil
	case Zstd:
		// Neither a stranger's window nor his dictionary decides on our memory.
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("%s is not a tarball", f)
}
