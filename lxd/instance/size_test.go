package instance

import (
	"maps"
	"testing"

	"sett/shared/errs"
)

// TestSizesAreLimits holds what LXD 5.0.2 makes of the same sizes.
func TestSizesAreLimits(t *testing.T) {
	t.Parallel()
	const cpu, share, memory = "limits.cpu", "limits.cpu.allowance", "limits.memory"
	for size, want := range map[string]map[string]string{
		"c2":          {cpu: "2"},
		"m3":          {memory: "3072MB"},
		"c2-m0.3":     {cpu: "2", memory: "307MB"},
		"c0.5-m2":     {cpu: "1", share: "50%", memory: "2048MB"},
		"c1.5-m1.25":  {cpu: "2", share: "75%", memory: "1280MB"},
		"m1-c1":       {cpu: "1", memory: "1024MB"},
		"c0.001":      {cpu: "1", share: "1%"},
		"":            nil,
		"t1":          nil,
		"t2.micro":    nil,
		"aws:t2.nano": nil,
		"c":           nil,
		"c-1":         nil,
		"c0":          nil,
		"cNaN":        nil,
		"mInf":        nil,
		"c2.m1":       nil,
		"c2-":         nil,
	} {
		got, err := sizeLimits(size)
		if want == nil && !errs.Is(err, errs.KindInvalid) || want != nil && err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v", size, got, err)
		}
	}
}
