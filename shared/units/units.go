// Package units reads and writes sizes the way people write them.
package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// suffixes maps the endings of sizes to their factor: B, kB (1000) and KiB (1024)
// families, in bytes or in bits.
var suffixes = map[string]int64{
	"":   1,
	"B":  1,
	"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15, "EB": 1e18,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50, "EiB": 1 << 60,
	"bit":  1,
	"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9, "Tbit": 1e12, "Pbit": 1e15, "Ebit": 1e18,
	"Kibit": 1 << 10, "Mibit": 1 << 20, "Gibit": 1 << 30, "Tibit": 1 << 40, "Pibit": 1 << 50, "Eibit": 1 << 60,
}

func split(s string) (number, suffix string) {
	i := strings.LastIndexAny(s, "0123456789") + 1
	return s[:i], strings.TrimSpace(s[i:])
}

func parse(s string, wants func(suffix string) bool) (int64, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, nil
	}
	number, suffix := split(s)
	factor, ok := suffixes[suffix]
	if !ok || !wants(suffix) {
		return -1, fmt.Errorf("Invalid value: %s: %q is no unit", s, suffix)
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return -1, fmt.Errorf("Invalid value: %s: a whole number and a unit are needed", s)
	}
	if n < 0 {
		return -1, fmt.Errorf("Invalid value: %s: sizes are not negative", s)
	}
	if n > math.MaxInt64/factor {
		return -1, fmt.Errorf("Invalid value: %s: too large", s)
	}
	return n * factor, nil
}

// ParseByteSizeString reads "10GiB" as bytes. Nothing means 0; a bare number is bytes.
func ParseByteSizeString(s string) (int64, error) {
	return parse(s, func(suffix string) bool { return !strings.HasSuffix(suffix, "bit") })
}

// ParseBitSizeString reads "10Mbit" as bits. Nothing means 0; a bare number is bits.
func ParseBitSizeString(s string) (int64, error) {
	return parse(s, func(suffix string) bool { return suffix == "" || strings.HasSuffix(suffix, "bit") })
}

func scaled(n int64, precision uint, base float64, names []string) string {
	if float64(n) < base {
		return fmt.Sprintf("%dB", n)
	}
	v := float64(n)
	for _, name := range names {
		v /= base
		if v < base || name == names[len(names)-1] {
			return fmt.Sprintf("%.*f%s", precision, v, name)
		}
	}
	return ""
}

// GetByteSizeString writes bytes with a decimal unit ("1.50kB").
func GetByteSizeString(n int64, precision uint) string {
	return scaled(n, precision, 1000, []string{"kB", "MB", "GB", "TB", "PB", "EB"})
}

// GetByteSizeStringIEC writes bytes with a binary unit ("1.50KiB").
func GetByteSizeStringIEC(n int64, precision uint) string {
	return scaled(n, precision, 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
}
