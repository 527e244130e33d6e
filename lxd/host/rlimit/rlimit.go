// Package rlimit reads the limits that the kernel sets to each process.
package rlimit

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// Limit is one limit: the soft one holds, and may be raised up to the hard one.
type Limit struct {
	Resource   int // RLIMIT_*
	Soft, Hard uint64
}

func resources() map[string]int {
	return map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
		"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
		"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
		"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
		"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}
}

// Names lists the resources.
func Names() []string { return slices.Sorted(maps.Keys(resources())) }

// Parse reads "SOFT:HARD", or one number for both; "unlimited" is a number too.
func Parse(name, value string) (Limit, error) {
	r, ok := resources()[strings.ToLower(name)]
	if !ok {
		return Limit{}, errs.Invalid("Resource limit %q is not known", name)
	}
	soft, hard, ok := strings.Cut(value, ":")
	if !ok {
		hard = soft
	}
	a, aerr := number(soft)
	b, berr := number(hard)
	if aerr != nil || berr != nil {
		return Limit{}, errs.Invalid("%q is no limit; a number, \"unlimited\" or SOFT:HARD is one", value)
	}
	if a > b {
		return Limit{}, errs.Invalid("%q has a soft limit above the hard one", value)
	}
	return Limit{r, a, b}, nil
}

// Of tells all limits of a process.
func Of(pid int) ([]Limit, error) {
	var out []Limit
	for _, r := range slices.Sorted(maps.Values(resources())) {
		var l unix.Rlimit
		if err := unix.Prlimit(pid, r, nil, &l); err != nil {
			return nil, err
		}
		out = append(out, Limit{r, l.Cur, l.Max})
	}
	return out, nil
}

// String is how the shim takes a limit: resource, soft and hard limit.
func (l Limit) String() string { return fmt.Sprintf("%d %d %d", l.Resource, l.Soft, l.Hard) }

func number(s string) (uint64, error) {
	if s == "unlimited" {
		return math.MaxUint64, nil
	}
	return strconv.ParseUint(s, 10, 64)
}
