package instance_test

import (
	"strings"
	"testing"
	"time"

	"sett/lxd/instance"
)

func TestNamesOfSnapshots(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, c := range []struct{ pattern, taken, want string }{
		{"snap%d", "", "snap0"},
		{"snap%d", "snap0 snap7 snapX snap08 other", "snap8"},
		{"a%db", "a3b a4 4b", "a4b"},
		{"fixed", "", "fixed"},
		{"fixed", "fixed", "fixed-0"},
		{"fixed", "fixed fixed-0", "fixed-1"},
		{"{{ creation_date|date:'2006-01-02_15-04' }}", "", "2026-03-04_05-06"},
		{`x-{{creation_date | date:"06"}}-%d`, "x-26-1", "x-26-2"},
		{"{{ creation_date }}", "", "2026-03-04 05:06:07"},
	} {
		if got, err := instance.NextName(c.pattern, strings.Fields(c.taken), now); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.pattern, got, err, c.want)
		}
	}
}
