package units_test

import (
	"testing"
	"time"

	"sett/shared/units"
)

func TestExpiry(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 1, 31, 10, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"": {}, " ": {}, "10S": from.Add(10 * time.Second), "30M": from.Add(30 * time.Minute), "1H 5M": from.Add(65 * time.Minute), "2d": from.AddDate(0, 0, 2),
		"1w": from.AddDate(0, 0, 7), "1m": from.AddDate(0, 1, 0), "1y": from.AddDate(1, 0, 0),
	} {
		if got, err := units.Expiry(from, in); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"1", "H", "1s", "1H 2H", "-1H", "1.5H", "1h", "99999999999d", "65535y", "8000y"} {
		if got, err := units.Expiry(from, in); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}
