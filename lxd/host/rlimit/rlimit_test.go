package rlimit

import (
	"math"
	"os"
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

func TestLimitsOfAProcess(t *testing.T) {
	t.Parallel()
	all, err := Of(os.Getpid())
	if err != nil || len(all) != len(Names()) {
		t.Fatalf("%v, %v", all, err)
	}
	for _, l := range all {
		var want unix.Rlimit
		if err := unix.Getrlimit(l.Resource, &want); err != nil || l.Soft != want.Cur || l.Hard != want.Max {
			t.Errorf("%s, not %+v: %v", l, want, err)
		}
	}
	if got := (Limit{7, 5, math.MaxUint64}).String(); got != "7 5 18446744073709551615" {
		t.Error(got)
	}
}
