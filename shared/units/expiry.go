package units

import (
	"strconv"
	"strings"
	"time"

	"sett/shared/errs"
)

// Expiry adds a span such as "2d 12H" to a time. The units are S (seconds), M
// (minutes), H (hours), d (days), w (weeks), m (months) and y (years); each may stand once.
// Nothing means never, the zero time.
func Expiry(from time.Time, v string) (time.Time, error) {
	words := strings.Fields(v)
	if len(words) == 0 {
		return time.Time{}, nil
	}
	seen := map[byte]bool{}
	at := from
	for _, w := range words {
		unit := w[len(w)-1]
		n, err := strconv.ParseUint(w[:len(w)-1], 10, 16)
		if err != nil || seen[unit] {
			return time.Time{}, errs.Invalid("%q is not a span of time (such as 30M, 12H or 1w 2d)", v)
		}
		seen[unit] = true
		switch n := int(n); unit {
		case 'S':
			at = at.Add(time.Duration(n) * time.Second)
		case 'M':
			at = at.Add(time.Duration(n) * time.Minute)
		case 'H':
			at = at.Add(time.Duration(n) * time.Hour)
		case 'd':
			at = at.AddDate(0, 0, n)
		case 'w':
			at = at.AddDate(0, 0, 7*n)
		case 'm':
			at = at.AddDate(0, n, 0)
		case 'y':
			at = at.AddDate(n, 0, 0)
		default:
			return time.Time{}, errs.Invalid("%q is not a span of time (such as 30M, 12H or 1w 2d)", v)
		}
	}
	if at.Year() > 9999 {
		return time.Time{}, errs.Invalid("%q is longer than anybody can write down", v)
	}
	return at, nil
}
