package instance

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"sett/shared/cron"
	"sett/shared/errs"
	"sett/shared/units"
)

// checkSnapshotName refuses names that cannot be a folder and part of a URL.
func checkSnapshotName(name string) error {
	switch {
	case name == "":
		return errs.Invalid("The snapshot needs a name")
	case strings.Contains(name, "/"):
		return errs.Invalid("Invalid snapshot name: Cannot contain \"/\"")
	case name == "." || name == "..", len(name) > 128, strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errs.Invalid("Invalid snapshot name %q", name)
	}
	return nil
}

func checkExpiry(v string) error {
	_, err := units.Expiry(time.Now(), v)
	return err
}

// datePart is the one thing besides %d that a pattern may hold.
const datePart = `\{\{\s*creation_date\s*(?:\|\s*date\s*:\s*(?:'([^'{}]*)'|"([^"{}]*)")\s*)?\}\}`

// fillPattern puts the time into a pattern.
func fillPattern(pattern string, now time.Time) (string, error) {
	re := regexp.MustCompile(datePart)
	out := re.ReplaceAllStringFunc(pattern, func(s string) string {
		m := re.FindStringSubmatch(s)
		layout := m[1] + m[2]
		if layout == "" {
			layout = "2006-01-02 15:04:05"
		}
		return now.Format(layout)
	})
	if strings.Contains(out, "{{") || strings.Contains(out, "{%") {
		return "", errs.Invalid("%q holds more than {{ creation_date }} and {{ creation_date|date:'layout' }}", pattern)
	}
	if strings.Count(out, "%d") > 1 {
		return "", errs.Invalid("%q holds more than one %%d", pattern)
	}
	return out, nil
}

func checkPattern(v string) error {
	s, err := fillPattern(v, time.Unix(1e9, 0).UTC())
	if err != nil {
		return err
	}
	return checkSnapshotName(strings.Replace(s, "%d", "0", 1))
}

// nextName is the name of a new snapshot that was given none.
func nextName(pattern string, taken []string, now time.Time) (string, error) {
	s, err := fillPattern(pattern, now)
	if err != nil {
		return "", err
	}
	if !strings.Contains(s, "%d") {
		free := true
		for _, n := range taken {
			free = free && n != s
		}
		if free {
			return s, nil
		}
		s += "-%d"
	}
	before, after, _ := strings.Cut(s, "%d")
	next := 0
	for _, n := range taken {
		mid, ok := strings.CutPrefix(n, before)
		if !ok {
			continue
		}
		if mid, ok = strings.CutSuffix(mid, after); !ok {
			continue
		}
		if i, err := strconv.Atoi(mid); err == nil && i >= next && strconv.Itoa(i) == mid {
			next = i + 1
		}
	}
	return before + strconv.Itoa(next) + after, nil
}

const (
	atStartup = "@startup"
	never     = "@never"
)

// schedules reads snapshots.schedule: one cron expression, or names. Instances of one
// name are spread over the time that it leaves open, each by its id.
func schedules(v string, id int64) (all []cron.Schedule, startup bool, err error) {
	v = strings.TrimSpace(v)
	if v != "" && !strings.HasPrefix(v, "@") {
		s, err := cron.Parse(v)
		if err != nil {
			return nil, false, errs.Wrap(errs.KindInvalid, err)
		}
		return []cron.Schedule{s}, false, nil
	}
	minute, hour := strconv.FormatInt(id*37%60, 10), strconv.FormatInt(id*17%24, 10)
	for name := range strings.SplitSeq(v, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		spec := ""
		switch name {
		case "", never:
			continue
		case atStartup:
			startup = true
			continue
		case "@hourly":
			spec = minute + " * * * *"
		case "@daily":
			spec = minute + " " + hour + " * * *"
		case "@midnight":
			spec = minute + " 0 * * *"
		case "@weekly":
			spec = minute + " " + hour + " * * 0"
		case "@monthly":
			spec = minute + " " + hour + " 1 * *"
		case "@annually", "@yearly":
			spec = minute + " " + hour + " 1 1 *"
		default:
			return nil, false, errs.Invalid("%q is no name of a schedule; there are @hourly, @daily, @midnight, @weekly, @monthly, @annually, @yearly, @startup and @never", name)
		}
		s, err := cron.Parse(spec)
		if err != nil {
			return nil, false, err
		}
		all = append(all, s)
	}
	return all, startup, nil
}

func checkSchedule(v string) error {
	_, _, err := schedules(v, 0)
	return err
}
