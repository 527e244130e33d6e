package instance

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestKeysThatDetach(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		out  string
		left bool
	}{
		"ls\n":              {"ls\n", false},
		"ls\n\x01qmore":     {"ls\n", true},
		"\x01\x01q":         {"\x01q", false},
		"\x01\x01\x01q":     {"\x01", true},
		"\x01x":             {"\x01x", false},
		"q\x01":             {"q", false},
		"a\x01bc\x01\x01dq": {"a\x01bc\x01dq", false},
	} {
		for how, r := range map[string]io.Reader{"whole": strings.NewReader(in), "by byte": iotest.OneByteReader(strings.NewReader(in))} {
			left := false
			out, err := io.ReadAll(&escape{r: r, leave: func() { left = true }})
			if err != nil || string(out) != want.out || left != want.left {
				t.Errorf("%q, %s: %q, left %v, %v", in, how, out, left, err)
			}
		}
	}
}
