package cron

import (
	"strings"
	"testing"
	"time"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.ParseInLocation("2006-01-02 15:04", s, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNext(t *testing.T) {
	t.Parallel()
	const now = "2026-02-27 23:59" // a Friday
	for spec, want := range map[string]string{
		"* * * * *":          "2026-02-28 00:00",
		"*/15 * * * *":       "2026-02-28 00:00",
		"7-50/15 3 * * *":    "2026-02-28 03:07",
		"30/10 * * * *":      "2026-02-28 00:30",
		"0 0 29 2 *":         "2028-02-29 00:00",
		"0 0 31 * *":         "2026-03-31 00:00",
		"0 6 * * 1-5":        "2026-03-02 06:00",
		"0 6 * * mon":        "2026-03-02 06:00",
		"0 6 * * 7":          "2026-03-01 06:00",
		"0 6 13 * FRI":       "2026-03-06 06:00", // either day
		"59 23 27 feb *":     "2027-02-27 23:59",
		"0 0 30 2 *":         "",
		"@hourly":            "2026-02-28 00:00",
		"@daily":             "2026-02-28 00:00",
		"@MIDNIGHT":          "2026-02-28 00:00",
		"@weekly":            "2026-03-01 00:00",
		"@monthly":           "2026-03-01 00:00",
		"@yearly":            "2027-01-01 00:00",
		"5,10 1,2 1 1,12 *":  "2026-12-01 01:05",
		" 0   12  * * 6,sun": "2026-02-28 12:00",
	} {
		s, err := Parse(spec)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		got := s.Next(at(t, now))
		if want == "" && !got.IsZero() || want != "" && !got.Equal(at(t, want)) {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
}

func TestBadSchedulesAreNamed(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"* * * *":                       "4 fields",
		"60 * * * *":                    `"60" is no minute`,
		"* 24 * * *":                    `"24" is no hour`,
		"* * 0 * *":                     "day of the month",
		"* * * foo *":                   `"foo" is no month`,
		"* * * * 8":                     "day of the week",
		"9-5 * * * *":                   "range",
		"*/0 * * * *":                   "step",
		"*/60 * * * *":                  "step",
		"1/9223372036854775807 * * * *": "step",
		"a/b * * * *":                   "step",
		"@often":                        "1 fields",
		"":                              "0 fields",
	} {
		if _, err := Parse(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

func TestClocksThatChange(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here")
	}
	s, err := Parse("30 2 * * *")
	if err != nil {
		t.Fatal(err)
	}
	// 02:30 is missing on the 29th of March 2026.
	if got := s.Next(time.Date(2026, 3, 28, 12, 0, 0, 0, berlin)); got.Day() != 30 || got.Hour() != 2 || got.Minute() != 30 {
		t.Errorf("got %s", got)
	}
	hourly, _ := Parse("@hourly")
	from := time.Date(2026, 10, 25, 1, 30, 0, 0, berlin) // 02:00 comes twice
	for range 3 {
		next := hourly.Next(from)
		if d := next.Sub(from); d <= 0 || d > time.Hour {
			t.Errorf("from %s to %s", from, next)
		}
		from = next
	}
}
