package validate

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sett/shared/errs"
)

// DefaultPort is where servers listen when an address says no port.
const DefaultPort = "8443"

// ListenAddress reads what a server is told to listen on: "10.0.0.1:8443",
// "[::]:8443", ":8443", "host.example", "fd42::1". It returns host and port in the
// form that the net package takes; a missing port is DefaultPort.
func ListenAddress(v string) (string, error) {
	bad := func() (string, error) {
		return "", errs.Invalid("%q is not an address to listen on (such as 10.0.0.1:8443, or [::]:8443 for all addresses)", v)
	}
	if a, err := netip.ParseAddr(strings.Trim(v, "[]")); err == nil {
		return net.JoinHostPort(a.String(), DefaultPort), nil
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		host, port = v, DefaultPort
	}
	if port == "" {
		port = DefaultPort
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", errs.Invalid("%q is not a port (in %q)", port, v)
	}
	if _, err := netip.ParseAddr(host); host != "" && err != nil && Domain(host) != nil {
		return bad()
	}
	return net.JoinHostPort(host, port), nil
}
