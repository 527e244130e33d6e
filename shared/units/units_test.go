package units

import "testing"

func TestSizesAreRead(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"": 0, "0": 0, "12": 12, "12B": 12, "1kB": 1000, "1KiB": 1024, " 10 GiB ": 10 << 30, "7EiB": 7 << 60,
	} {
		if got, err := ParseByteSizeString(in); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"x", "GiB", "1.5GiB", "-1GiB", "10XB", "10Mbit", "9EiB", "99999999999999999999"} {
		if got, err := ParseByteSizeString(in); err == nil {
			t.Errorf("%q was read as %d", in, got)
		}
	}
	if got, err := ParseBitSizeString("10Mbit"); err != nil || got != 10e6 {
		t.Errorf("10Mbit: %d, %v", got, err)
	}
	if _, err := ParseBitSizeString("10MB"); err == nil {
		t.Error("bytes are no bits")
	}
}

func TestSizesAreWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n         int64
		p         uint
		dec, bins string
	}{
		{0, 2, "0B", "0B"},
		{999, 2, "999B", "999B"},
		{1000, 2, "1.00kB", "1000B"},
		{1536, 2, "1.54kB", "1.50KiB"},
		{1065288, 2, "1.07MB", "1.02MiB"},
		{10 << 30, 1, "10.7GB", "10.0GiB"},
	} {
		if g := GetByteSizeString(c.n, c.p); g != c.dec {
			t.Errorf("%d: %s, want %s", c.n, g, c.dec)
		}
		if g := GetByteSizeStringIEC(c.n, c.p); g != c.bins {
			t.Errorf("%d: %s, want %s", c.n, g, c.bins)
		}
	}
}
