package daemon

import (
	"net"
	"strconv"
)

// expand turns the address of a listener into those that clients may use: where it
// is for all addresses, the host's own ones that others can reach.
func expand(a *net.TCPAddr) []string {
	port := strconv.Itoa(a.Port)
	if !a.IP.IsUnspecified() {
		return []string{net.JoinHostPort(a.IP.String(), port)}
	}
	out := []string{}
	links, err := net.Interfaces()
	if err != nil {
		return out
	}
	for _, l := range links {
		as, err := l.Addrs()
		if err != nil {
			continue
		}
		for _, addr := range as {
			n, ok := addr.(*net.IPNet)
			// A listener on 0.0.0.0 hears nothing of IPv6.
			if !ok || !n.IP.IsGlobalUnicast() || len(a.IP) == net.IPv4len && n.IP.To4() == nil {
				continue
			}
			out = append(out, net.JoinHostPort(n.IP.String(), port))
		}
	}
	return out
}
