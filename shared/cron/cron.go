// Package cron reads schedules: five fields as in crontab(5), or names such as
// @daily, and tells when they come next.
//
// Times are of the location that the time asked with has. In the night when clocks
// go forward what would fall into the missing hour is left out; when they go back it
// happens once.
package cron

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Schedule is one schedule. It is made by Parse.
type Schedule struct {
	minute, hour, dom, month, dow uint64 // bit n: the value n fits
	anyDay                        bool   // dom and dow must both fit: one of them is a star
}

type field struct {
	name     string
	min, max int
	names    []string // of the values from min on
}

var fields = [...]field{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of the month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of the week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// aliases are names for schedules.
var aliases = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
	"@monthly": "0 0 1 * *", "@annually": "0 0 1 1 *", "@yearly": "0 0 1 1 *",
}

// Parse reads a schedule.
func Parse(s string) (Schedule, error) {
	if a, ok := aliases[strings.ToLower(strings.TrimSpace(s))]; ok {
		s = a
	}
	parts := strings.Fields(s)
	if len(parts) != len(fields) {
		return Schedule{}, fmt.Errorf("schedule %q has %d fields instead of 5 (minute, hour, day of the month, month, day of the week)", s, len(parts))
	}
	var bits [len(fields)]uint64
	for i, p := range parts {
		b, err := fields[i].parse(p)
		if err != nil {
			return Schedule{}, fmt.Errorf("schedule %q: %w", s, err)
		}
		bits[i] = b
	}
	if bits[4]&(1<<7) != 0 { // Sunday has two numbers
		bits[4] |= 1
	}
	return Schedule{bits[0], bits[1], bits[2], bits[3], bits[4], parts[2][0] == '*' || parts[4][0] == '*'}, nil
}

func (f field) parse(s string) (uint64, error) {
	var out uint64
	for part := range strings.SplitSeq(s, ",") {
		span, step, stepped := strings.Cut(part, "/")
		n := 1
		if stepped {
			var err error
			if n, err = strconv.Atoi(step); err != nil || n < 1 || n > f.max {
				return 0, fmt.Errorf("%q is no step of the %s", step, f.name)
			}
		}
		lo, hi := f.min, f.max
		if span != "*" {
			from, to, isSpan := strings.Cut(span, "-")
			var err error
			if lo, err = f.value(from); err != nil {
				return 0, err
			}
			switch {
			case isSpan:
				if hi, err = f.value(to); err != nil {
					return 0, err
				}
			case !stepped:
				hi = lo
			}
		}
		if hi < lo {
			return 0, fmt.Errorf("%q is no range of the %s", span, f.name)
		}
		for v := lo; v <= hi; v += n {
			out |= 1 << v
		}
	}
	return out, nil
}

func (f field) value(s string) (int, error) {
	for i, n := range f.names {
		if strings.EqualFold(s, n) {
			return f.min + i, nil
		}
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < f.min || v > f.max {
		return 0, fmt.Errorf("%q is no %s", s, f.name)
	}
	return v, nil
}

// horizon is how far ahead Next looks: the 29th of February may be eight years away.
const horizon = 9

// Next is the first minute after t at which the schedule comes, or the zero time when
// it never does (the 30th of February).
func (s Schedule) Next(t time.Time) time.Time {
	t = t.Truncate(time.Minute).Add(time.Minute)
	for end := t.AddDate(horizon, 0, 0); t.Before(end); {
		switch {
		case s.month&(1<<t.Month()) == 0:
			t = after(t, time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, t.Location()))
		case !s.day(t):
			t = after(t, time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, t.Location()))
		case s.hour&(1<<t.Hour()) == 0:
			t = t.Add(time.Duration(60-t.Minute()) * time.Minute)
		case s.minute&(1<<t.Minute()) == 0:
			t = t.Add(time.Minute)
		default:
			return t
		}
	}
	return time.Time{}
}

// after makes sure that time goes on where clocks are changed at midnight.
func after(t, next time.Time) time.Time {
	if next.After(t) {
		return next
	}
	return t.Add(time.Hour)
}

func (s Schedule) day(t time.Time) bool {
	dom, dow := s.dom&(1<<t.Day()) != 0, s.dow&(1<<t.Weekday()) != 0
	if s.anyDay {
		return dom && dow
	}
	return dom || dow // when both are given one is enough
}
