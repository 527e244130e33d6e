package wire_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"sett/lxd/shim/wire"
)

func TestMessagesKeepTheirBorders(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for _, m := range []string{"one", "", "three"} {
		if err := wire.Write(&b, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"one", "", "three"} {
		if got, err := wire.Read(&b); err != nil || string(got) != want {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if _, err := wire.Read(&b); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if _, err := wire.Read(bytes.NewReader([]byte{9, 0, 0, 0, 1})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a message: %v", err)
	}
	if _, err := wire.Read(bytes.NewReader([]byte{255, 255, 255, 255})); err == nil {
		t.Error("a giant message was taken")
	}
	if err := wire.Write(io.Discard, make([]byte, 9<<20)); err == nil {
		t.Error("a giant message was sent")
	}
}

func TestFieldsHaveTheFormThatCReads(t *testing.T) {
	t.Parallel()
	var f wire.Fields
	f.Add(wire.TagArg, "ls")
	f.AddInt(wire.TagUID, 1000)
	if want := "a\x02\x00\x00\x00ls\x00u\x04\x00\x00\x001000\x00"; string(f) != want {
		t.Errorf("got %q", f)
	}
}

func TestResultNamesItsStage(t *testing.T) {
	t.Parallel()
	r, err := wire.ParseResult([]byte{5, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0})
	if err != nil || r.Stage != wire.StageSetns || r.Errno != 3 || r.PID != 7 || r.Stage.String() != "join the namespaces" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := wire.ParseResult([]byte{1}); err == nil {
		t.Error("a short answer was taken")
	}
	if wire.StageUmount.String() != "unmount" || wire.Stage(99).String() != "stage 99" {
		t.Error("names are out of step")
	}
}
