package btrfs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
)

func aCommand(cmd uint16, data string) string {
	le := binary.LittleEndian
	attr := le.AppendUint16(le.AppendUint16(nil, attrData), uint16(len(data)))
	body := append(attr, data...)
	b := le.AppendUint32(le.AppendUint16(le.AppendUint32(nil, uint32(len(body))), cmd), 0)
	b = append(b, body...)
	le.PutUint32(b[6:], ^crc32.Update(^uint32(0), crc32.MakeTable(crc32.Castagnoli), b))
	return string(b)
}

// The kernel may begin a stream anew at any place when the daemon was stopped or frozen.
func TestOnlyAWholeStreamIsSent(t *testing.T) {
	t.Parallel()
	const head = streamMagic + "\x01\x00\x00\x00"
	write, end := aCommand(15, strings.Repeat("data", 100)), aCommand(cmdEnd, "")
	whole := head + write + write + end
	if err := follow(bufio.NewReader(strings.NewReader(whole))); err != nil {
		t.Errorf("a whole stream: %v", err)
	}
	for n := range len(whole) {
		if err := follow(bufio.NewReader(strings.NewReader(whole[:n]))); err == nil {
			t.Errorf("of %d bytes the first %d are taken for all", len(whole), n)
		}
	}
	for n := 1; n <= len(whole); n++ {
		if err := follow(bufio.NewReader(strings.NewReader(whole[:n] + whole))); err == nil {
			t.Errorf("begun anew after %d of %d bytes it is taken for one", n, len(whole))
		}
	}
	if bad := bytes.Replace([]byte(whole), []byte("data"), []byte("dato"), 1); follow(bufio.NewReader(bytes.NewReader(bad))) == nil {
		t.Error("other data is taken for it")
	}
}
