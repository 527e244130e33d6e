package validate_test

import (
	"testing"

	"sett/shared/validate"
)

func TestNetworkValues(t *testing.T) {
	t.Parallel()
	ipRange := func(v string) error { _, _, err := validate.IPRange(v); return err }
	for name, c := range map[string]struct {
		check     func(string) error
		good, bad []string
	}{
		"IPv4":          {validate.IPv4, []string{"10.0.0.1"}, []string{"", "10.0.0", "10.0.0.256", "::1", "::ffff:10.0.0.1"}},
		"IPv6":          {validate.IPv6, []string{"fd42::1"}, []string{"10.0.0.1", "fe80::1%eth0", "g::"}},
		"IPv4Interface": {validate.IPv4Interface, []string{"10.0.0.1/24", "10.0.0.0/31"}, []string{"10.0.0.0/24", "10.0.0.1", "fd42::1/64", "127.0.0.1/24", "224.0.0.5/24", "169.254.1.1/24"}},
		"IPv6Interface": {validate.IPv6Interface, []string{"fd42::1/64"}, []string{"fd42::/64", "10.0.0.1/24", "fe80::1/64", "::1/64"}},
		"IPv4Prefix":    {validate.IPv4Prefix, []string{"10.0.0.0/24", "10.0.0.1/32"}, []string{"10.0.0.1/24"}},
		"IPv6Prefix":    {validate.IPv6Prefix, []string{"fd42::/64"}, []string{"fd42::1/64", "10.0.0.0/8"}},
		"HWAddr":        {validate.HWAddr, []string{"00:16:3e:01:02:03"}, []string{"01:16:3e:01:02:03", "0016.3e01.0203", "00-16-3e-01-02-03", "00:16:3e:01:02:03:04:05", ""}},
		"IPRange":       {ipRange, []string{"10.0.0.1-10.0.0.9", "10.0.0.1", "fd42::1 - fd42::9"}, []string{"10.0.0.9-10.0.0.1", "10.0.0.1-fd42::1", "-"}},
		"Domain":        {validate.Domain, []string{"lxd", "a.example.com"}, []string{"", "a..b", "-a", "a b", "a,b", "a\nb"}},
		"Each":          {validate.Each(validate.IPv4), []string{"10.0.0.1, 10.0.0.2"}, []string{"10.0.0.1,"}},
		"Or":            {validate.Or(validate.IPv4, "none"), []string{"none", "10.0.0.1"}, []string{"auto"}},
	} {
		for _, v := range c.good {
			if err := c.check(v); err != nil {
				t.Errorf("%s refuses %q: %v", name, v, err)
			}
		}
		for _, v := range c.bad {
			if c.check(v) == nil {
				t.Errorf("%s takes %q", name, v)
			}
		}
	}
}
