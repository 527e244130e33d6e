package dnsmasq

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Release gives an IPv4 lease back in the name of the client that it was given to,
// who is gone and cannot. Until it has run out, the address would be nobody's. bridge is
// the interface that the client asked by, server the address that it was answered from.
func Release(ctx context.Context, bridge string, server netip.Addr, l Lease) error {
	p, err := releasePacket(server, l)
	if err != nil {
		return err
	}
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		// By this the server knows which of its networks is meant.
		var bound error
		err := c.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), bridge) })
		return errors.Join(err, bound)
	}}
	c, err := d.DialContext(ctx, "udp4", netip.AddrPortFrom(server, 67).String())
	if err != nil {
		return fmt.Errorf("give the lease of %s back: %w", l.Address, err)
	}
	defer c.Close()
	if _, err := c.Write(p); err != nil {
		return fmt.Errorf("give the lease of %s back: %w", l.Address, err)
	}
	return nil
}

// releasePacket is a DHCPRELEASE (RFC 2131, 4.4.6).
func releasePacket(server netip.Addr, l Lease) ([]byte, error) {
	mac, err := net.ParseMAC(l.HWAddr)
	if err != nil || len(mac) != 6 || !l.Address.Is4() || !server.Is4() {
		return nil, fmt.Errorf("the lease of %s is none of IPv4 and Ethernet", l.Address)
	}
	p := make([]byte, 236, 300)
	p[0], p[1], p[2] = 1, 1, 6 // a request, of Ethernet, whose addresses have six bytes
	rand.Read(p[4:8])          // its number
	copy(p[12:], l.Address.AsSlice())
	copy(p[28:], mac)
	p = append(p, 0x63, 0x82, 0x53, 0x63) // what follows are options
	p = append(p, 53, 1, 7)               // a release
	p = append(p, 54, 4)
	p = append(p, server.AsSlice()...)
	if id, err := hex.DecodeString(strings.ReplaceAll(l.ClientID, ":", "")); err == nil && len(id) > 0 && len(id) < 256 {
		p = append(p, 61, byte(len(id)))
		p = append(p, id...)
	}
	return append(p, 255), nil
}
