package instance

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"sett/shared/errs"
)

// sizeLimits are the limits that a size such as "c1.5-m2" stands for: so many CPUs and
// GiB of memory. A part of a CPU is as much of the time of a whole one. The names of
// machines that can be rented, such as "t2.micro", come with no list of what they are.
func sizeLimits(size string) (map[string]string, error) {
	out := map[string]string{}
	for part := range strings.SplitSeq(size, "-") {
		if part == "" || part[0] != 'c' && part[0] != 'm' {
			return nil, errs.Invalid("Instance type %q is not known here; say it as cCPUS-mGIB (such as c2-m4)", size)
		}
		n, err := strconv.ParseFloat(part[1:], 64)
		if err != nil || math.IsNaN(n) || n <= 0 || n > 1<<20 {
			return nil, errs.Invalid("Instance type %q: %q is not a number of CPUs or GiB (such as c2-m4)", size, part)
		}
		if part[0] == 'm' {
			out[LimitMemory.Name()] = fmt.Sprintf("%dMB", int64(n*1024))
			continue
		}
		whole := math.Ceil(n)
		out[LimitCPU.Name()] = strconv.Itoa(int(whole))
		if share := int(n / whole * 100); share < 100 {
			out[LimitAllowance.Name()] = fmt.Sprintf("%d%%", max(share, 1))
		}
	}
	return out, nil
}
