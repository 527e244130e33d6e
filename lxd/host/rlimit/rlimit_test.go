package rlimit

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Limit{
		"100": {unix.RLIMIT_NOFILE, 100, 100}, "100:200": {unix.RLIMIT_NOFILE, 100, 200},
		"unlimited": {unix.RLIMIT_NOFILE, math.MaxUint64, math.MaxUint64}, "0:unlimited": {unix.RLIMIT_NOFILE, 0, math.MaxUint64},
	} {
		if got, err := Parse("nofile", in); err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "x", "1:", ":1", "1:2:3", "-1", "200:100", "1 "} {
		if got, err := Parse("nofile", bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
	if _, err := Parse("nosuch", "1"); err == nil {
		t.Error("an unknown resource was taken")
	}
	for _, n := range Names() {
		if _, err := Parse(n, "1"); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}
